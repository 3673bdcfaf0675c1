// SPDX-License-Identifier: Apache-2.0

/// One stage of bitward_thresholding's binary search, two cycles long: read the threshold that the search asks for, then
/// vote and compare. Each lane has a memory of its own, each copy of a threshold too; a readback rides along as a slot.
///
/// Of the indices 0..2^Levels-1 of a list, a stage holds those whose low bits are 0 followed by Levels-1-Stage ones.
module bitward_threshold_stage #(
  parameter  int unsigned Stage    = 0,       /// 0 finds the result's top bit
  parameter  int unsigned Levels   = 4,       /// stages of the search
  parameter  int unsigned Pe       = 1,       /// channels a beat
  parameter  int unsigned Folds    = 1,       /// lists a lane holds
  parameter  int unsigned Steps    = 15,      /// thresholds of a list
  parameter  int unsigned InBits   = 16,      /// width of an element
  parameter  bit          InSigned = 1,       /// elements are two's complement
  parameter  int unsigned Bits     = 16,      /// plain width of a threshold
  parameter  bit          Signed   = 1,       /// thresholds are two's complement
  parameter  int unsigned Voted    = 0,       /// voted bits of a threshold: 0 none, Bits all
  parameter               InitFile = "",      /// InitFile_STAGE_LANE.dat: a lane's thresholds {fold, place in the stage}
  parameter               RamStyle = "auto",  /// auto, block or distributed
  localparam int unsigned Copies   = Voted == 0 ? 1 : 3,
  localparam int unsigned Gap      = Voted == 0 || Bits >= 4 ? 0 : 4 - Bits,
  localparam int unsigned Stored   = Copies * Bits + (Copies - 1) * Gap,
  localparam int unsigned FoldBits = Folds > 1 ? $clog2(Folds) : 1,
  localparam int unsigned LaneBits = Pe > 1 ? $clog2(Pe) : 1
) (
  input  logic                         ap_clk,
  input  logic                         ap_rst_n,

  input  logic                         search_i,    /// the slot is a beat
  input  logic                         read_i,      /// the slot is a readback
  input  logic [FoldBits-1:0]          fold_i,      /// list of the beat or of the row read
  input  logic [LaneBits-1:0]          lane_i,      /// lane of the row read
  input  logic [Pe-1:0][Levels-1:0]    found_i,     /// result so far, or the index of the row read
  input  logic [Pe-1:0][InBits-1:0]    element_i,
  input  logic [Stored-1:0]            row_i,       /// the row read, if it has passed
  input  logic                         differ_i,    /// copies differed in a row that the beat has read

  output logic                         search_o,
  output logic                         read_o,
  output logic [FoldBits-1:0]          fold_o,
  output logic [LaneBits-1:0]          lane_o,
  output logic [Pe-1:0][Levels-1:0]    found_o,
  output logic [Pe-1:0][InBits-1:0]    element_o,
  output logic [Stored-1:0]            row_o,
  output logic                         differ_o,

  input  logic                         write_i,     /// row {write_fold_i, write_lane_i, write_index_i} is stored_i
  input  logic [FoldBits-1:0]          write_fold_i,
  input  logic [LaneBits-1:0]          write_lane_i,
  input  logic [Levels-1:0]            write_index_i,
  input  logic [Stored-1:0]            stored_i
);

  localparam int unsigned Below    = Levels - 1 - Stage;  // the bit of the result that is found here
  localparam int unsigned Depth    = Folds << Stage;
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1;
  // What the arrays are made of: a block RAM where it is not mostly empty.
  localparam bit          InBlock  = RamStyle == "block" || (RamStyle == "auto" && Depth >= 512);
  // Both sides of the comparison, wide enough for either.
  localparam bit          AnySigned = InSigned || Signed;
  localparam int unsigned InWide    = InBits + 32'(AnySigned && !InSigned);
  localparam int unsigned Wide      = Bits + 32'(AnySigned && !Signed);
  localparam int unsigned CmpBits   = InWide > Wide ? InWide : Wide;

  function automatic logic [AddrBits-1:0] address(logic [FoldBits-1:0] fold, logic [Levels-1:0] index);
    return AddrBits'((32'(fold) << Stage) | (32'(index) >> (Levels - Stage)));
  endfunction
  function automatic logic is_here(logic [Levels-1:0] index);
    return (32'(index) & ((2 << Below) - 1)) == (1 << Below) - 1;
  endfunction

  logic                      search_q, read_q, differ_q;
  logic [FoldBits-1:0]       fold_q;
  logic [LaneBits-1:0]       lane_q;
  logic [Pe-1:0][Levels-1:0] found_q, found_d;
  logic [Pe-1:0][InBits-1:0] element_q;
  logic [Stored-1:0]         row_q;
  logic [Pe-1:0][Stored-1:0] read_out;
  logic [Pe-1:0]             differ;

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    logic [Copies-1:0][Bits-1:0] copy;  // the read registers
    wire write = write_i && write_lane_i == LaneBits'(p) && is_here(write_index_i) && 32'(write_fold_i) < Folds;

    for (genvar c = 0; c < Copies; c++) begin : gen_copy
      bitward_threshold_copy #(
        .Stage(Stage), .Lane(p), .Depth(Depth), .Bits(Bits), .InitFile(InitFile), .InBlock(InBlock)
      ) i_copy (
        .ap_clk, .write_i(write), .write_at_i(address(write_fold_i, write_index_i)),
        .threshold_i(stored_i[c*(Bits+Gap)+:Bits]), .at_i(address(fold_i, found_i[p])), .threshold_o(copy[c])
      );
    end

    logic [Bits-1:0] voted;
    if (Voted == 0) begin : gen_plain
      assign voted       = copy[0];
      assign read_out[p] = copy[0];
      assign differ[p]   = 1'b0;
    end else begin : gen_voted
      localparam int unsigned At = Bits + Gap;
      always_comb begin
        read_out[p] = '0;
        for (int unsigned c = 0; c < Copies; c++) read_out[p][c*At+:Bits] = copy[c];
      end
      bitward_voter #(.NumWords(1), .Bits(Bits), .Voted(Bits)) i_voter (.stored_i(read_out[p]), .word_o(voted));
      bitward_disagree #(.NumWords(1), .Bits(Bits), .Voted(Bits)) i_disagree (
        .stored_i(read_out[p]), .corrected_o(differ[p])
      );
    end

    wire [Levels-1:0] index    = found_q[p] | Levels'((1 << Below) - 1);
    wire              in_scope = 32'(index) < Steps;
    wire [CmpBits-1:0] flip    = AnySigned ? CmpBits'(1) << (CmpBits - 1) : '0;
    wire [CmpBits-1:0] left    = Signed ? CmpBits'($signed(voted)) : CmpBits'(voted);
    wire [CmpBits-1:0] right   = InSigned ? CmpBits'($signed(element_q[p])) : CmpBits'(element_q[p]);
    // Flipping the sign bit orders two's complement like unsigned numbers.
    wire              reached  = in_scope && (left ^ flip) <= (right ^ flip);
    always_comb begin
      found_d[p] = found_q[p];
      if (search_q) found_d[p][Below] = reached;
    end
    wire counted = differ[p] && in_scope;
  end

  logic [Pe-1:0]     counted;
  logic [Stored-1:0] row_d;
  for (genvar p = 0; p < Pe; p++) begin : gen_counted
    assign counted[p] = gen_lane[p].counted;
  end
  always_comb begin
    row_d = row_q;
    for (int unsigned p = 0; p < Pe; p++) begin
      if (is_here(found_q[0]) && lane_q == LaneBits'(p)) row_d |= read_out[p];
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      {search_q, search_o} <= '0;
      {read_q, read_o}     <= '0;
    end else begin
      {search_q, search_o} <= {search_i, search_q};
      {read_q, read_o}     <= {read_i, read_q};
    end
  end
  always_ff @(posedge ap_clk) begin
    {fold_q, fold_o}       <= {fold_i, fold_q};
    {lane_q, lane_o}       <= {lane_i, lane_q};
    {found_q, found_o}     <= {found_i, found_d};
    {element_q, element_o} <= {element_i, element_q};
    {row_q, row_o}         <= {row_i, row_d};
    {differ_q, differ_o}   <= {differ_i, differ_q || |counted};
  end

  // Slots between the copies of a narrow threshold are padding.
  wire unused_padding = &{1'b0, stored_i};

endmodule
