// SPDX-License-Identifier: Apache-2.0

/// Elements become Bias + the number of thresholds of their channel that are not above them, found by binary search: one
/// beat a cycle, in stages of two cycles that never stop. What they give waits in a queue, and a beat is taken only when
/// the queue has room for it. Reads over AXI-Lite take one slot each of the stages, writes none.
///
/// Row {fold, lane, index} of the memory (lane and index of whole bits) holds a threshold of channel fold*Pe + lane; with
/// Folds = 1, lane p's list serves channels p, Pe + p, ... A stored row is, from bit 0 up, copies 0, 1 and 2 of the
/// threshold (bitward.layout.BeatLayout of one word). Rows of lanes and lists that do not exist read as 0 and ignore writes.
/// The list need not be sorted, as upsets may leave it: model bitward.engine.ops.thresholding.
module bitward_thresholding #(
  parameter  int unsigned Pe       = 1,       /// channels a beat
  parameter  int unsigned Folds    = 1,       /// lists a lane holds: beats a pixel, or 1 for one list for all
  parameter  int unsigned Steps    = 15,      /// thresholds of a list
  parameter  int unsigned InBits   = 16,      /// width of an element
  parameter  bit          InSigned = 1,       /// elements are two's complement
  parameter  int unsigned Bits     = 16,      /// plain width of a threshold
  parameter  bit          Signed   = 1,       /// thresholds are two's complement
  parameter  int unsigned Voted    = 0,       /// voted bits of a threshold: 0 none, Bits all
  parameter  int unsigned OutBits  = 4,       /// width of a result
  parameter  int          Bias     = 0,       /// the least result
  parameter               InitFile = "",      /// InitFile_STAGE_LANE.dat: plain thresholds of a stage and lane
  parameter               RamStyle = "auto",  /// auto (block RAM for arrays of 512 and more), block or distributed
  localparam int unsigned Levels   = $clog2(Steps + 1),
  localparam int unsigned PeBits   = Pe > 1 ? $clog2(Pe) : 0,
  localparam int unsigned Rows     = Folds << (PeBits + Levels),
  localparam int unsigned Gap      = Voted == 0 || Bits >= 4 ? 0 : 4 - Bits,
  localparam int unsigned Stored   = Voted == 0 ? Bits : 3 * Bits + 2 * Gap,
  localparam int unsigned AddrBits = $clog2(Rows * (2 ** $clog2((Stored + 31) / 32))) + 2,
  localparam int unsigned InBytes  = (Pe * InBits + 7) / 8,
  localparam int unsigned OutBytes = (Pe * OutBits + 7) / 8
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*InBytes-1:0]  in0_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA,

  input  logic                  s_axilite_AWVALID,
  output logic                  s_axilite_AWREADY,
  input  logic [AddrBits-1:0]   s_axilite_AWADDR,
  input  logic                  s_axilite_WVALID,
  output logic                  s_axilite_WREADY,
  input  logic [31:0]           s_axilite_WDATA,
  output logic                  s_axilite_BVALID,
  input  logic                  s_axilite_BREADY,
  output logic [1:0]            s_axilite_BRESP,
  input  logic                  s_axilite_ARVALID,
  output logic                  s_axilite_ARREADY,
  input  logic [AddrBits-1:0]   s_axilite_ARADDR,
  output logic                  s_axilite_RVALID,
  input  logic                  s_axilite_RREADY,
  output logic [31:0]           s_axilite_RDATA,
  output logic [1:0]            s_axilite_RRESP,

  output logic                  corrected_o,  /// one cycle for each beat whose search read a row with differing copies
  output logic                  detected_o    /// never: a vote always ends
);

  if (Pe == 0 || Folds == 0 || Steps == 0 || InBits == 0 || Bits == 0) begin : gen_bad_sizes
    $error("bitward_thresholding: Pe, Folds, Steps, InBits and Bits must be at least 1, got %0d, %0d, %0d, %0d, %0d.",
           Pe, Folds, Steps, InBits, Bits);
  end
  if (Voted != 0 && Voted != Bits) begin : gen_bad_voted
    $error("bitward_thresholding: Voted must be 0 or Bits, got Voted=%0d Bits=%0d.", Voted, Bits);
  end
  if (OutBits < Levels) begin : gen_bad_result
    $error("bitward_thresholding: OutBits must be at least the %0d of the search, got %0d.", Levels, OutBits);
  end
  if (RamStyle != "auto" && RamStyle != "block" && RamStyle != "distributed") begin : gen_bad_style
    $error("bitward_thresholding: RamStyle must be auto, block or distributed, got %s.", RamStyle);
  end

  localparam int unsigned FoldBits  = Folds > 1 ? $clog2(Folds) : 1;
  localparam int unsigned LaneBits  = Pe > 1 ? $clog2(Pe) : 1;
  localparam int unsigned RowBits   = $clog2(Rows);
  localparam int unsigned InFlight  = 2 * Levels + 4;  // beats between input and output at one a cycle, and one to spare
  localparam int unsigned QueueSize = InFlight - 1;    // all but the one in the output register
  localparam int unsigned CntBits   = $clog2(InFlight + 1);
  localparam int unsigned AtBits    = $clog2(QueueSize);

  // ---- rows over AXI-Lite ----------------------------------------------------------------------------
  logic                access, is_write, row_valid;
  logic [RowBits-1:0]  row;
  logic [Stored-1:0]   written, row_read;

  axilite #(.ADDR_WIDTH(AddrBits), .DATA_WIDTH(32), .IP_DATA_WIDTH(Stored)) i_axilite (
    .aclk(ap_clk), .aresetn(ap_rst_n),
    .awready(s_axilite_AWREADY), .awvalid(s_axilite_AWVALID), .awprot('0), .awaddr(s_axilite_AWADDR),
    .wready(s_axilite_WREADY), .wvalid(s_axilite_WVALID), .wdata(s_axilite_WDATA), .wstrb('1),
    .bready(s_axilite_BREADY), .bvalid(s_axilite_BVALID), .bresp(s_axilite_BRESP),
    .arready(s_axilite_ARREADY), .arvalid(s_axilite_ARVALID), .arprot('0), .araddr(s_axilite_ARADDR),
    .rready(s_axilite_RREADY), .rvalid(s_axilite_RVALID), .rresp(s_axilite_RRESP), .rdata(s_axilite_RDATA),
    .ip_en(access), .ip_wen(is_write), .ip_addr(row), .ip_wdata(written), .ip_rack(row_valid), .ip_rdata(row_read)
  );

  wire                read      = access && !is_write;
  wire [FoldBits-1:0] row_fold  = FoldBits'(32'(row) >> (PeBits + Levels));
  wire [LaneBits-1:0] row_lane  = LaneBits'((32'(row) >> Levels) & ((1 << PeBits) - 1));
  wire [Levels-1:0]   row_index = Levels'(row);

  // ---- what is taken ---------------------------------------------------------------------------------
  logic [CntBits-1:0]  room_q;
  logic [FoldBits-1:0] fold_q;

  assign in0_V_TREADY = room_q != '0 && !read;
  wire take = in0_V_TVALID && in0_V_TREADY;
  wire give = out0_V_TVALID && out0_V_TREADY;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      room_q <= CntBits'(InFlight);
      fold_q <= '0;
    end else begin
      room_q <= room_q + CntBits'(give) - CntBits'(take);
      if (take) fold_q <= 32'(fold_q) == Folds - 1 ? '0 : fold_q + 1'b1;
    end
  end

  // ---- the search ------------------------------------------------------------------------------------
  logic [Levels:0]                         search, reading, differ;
  logic [Levels:0][FoldBits-1:0]           fold;
  logic [Levels:0][LaneBits-1:0]           lane;
  logic [Levels:0][Pe-1:0][Levels-1:0]     found;
  logic [Levels:0][Pe-1:0][InBits-1:0]     element;
  logic [Levels:0][Stored-1:0]             passed;

  assign search[0]  = take;
  assign reading[0] = read;
  assign differ[0]  = 1'b0;
  assign fold[0]    = read ? row_fold : fold_q;
  assign lane[0]    = row_lane;
  assign found[0]   = {Pe{read ? row_index : Levels'(0)}};
  assign element[0] = in0_V_TDATA[Pe*InBits-1:0];
  assign passed[0]  = '0;

  for (genvar s = 0; s < Levels; s++) begin : gen_stage
    bitward_threshold_stage #(
      .Stage(s), .Levels(Levels), .Pe(Pe), .Folds(Folds), .Steps(Steps), .InBits(InBits), .InSigned(InSigned),
      .Bits(Bits), .Signed(Signed), .Voted(Voted), .InitFile(InitFile), .RamStyle(RamStyle)
    ) i_stage (
      .ap_clk, .ap_rst_n,
      .search_i(search[s]), .read_i(reading[s]), .fold_i(fold[s]), .lane_i(lane[s]), .found_i(found[s]),
      .element_i(element[s]), .row_i(passed[s]), .differ_i(differ[s]),
      .search_o(search[s+1]), .read_o(reading[s+1]), .fold_o(fold[s+1]), .lane_o(lane[s+1]), .found_o(found[s+1]),
      .element_o(element[s+1]), .row_o(passed[s+1]), .differ_o(differ[s+1]),
      .write_i(access && is_write), .write_fold_i(row_fold), .write_lane_i(row_lane), .write_index_i(row_index),
      .stored_i(written)
    );
  end

  assign row_valid   = reading[Levels];
  assign row_read    = passed[Levels];
  assign corrected_o = search[Levels] && differ[Levels];
  assign detected_o  = 1'b0;

  // ---- what is given ---------------------------------------------------------------------------------
  logic [Pe-1:0][Levels-1:0]  queue_q[QueueSize-1:0];  // the youngest first, a shift register
  logic [CntBits-1:0]         held_q;                  // how many it holds
  logic                       valid_q;
  logic [Pe-1:0][OutBits-1:0] result_q, result_d;

  wire push = search[Levels];
  wire pop  = held_q != '0 && (!valid_q || out0_V_TREADY);

  always_comb begin
    for (int unsigned p = 0; p < Pe; p++) begin
      result_d[p] = OutBits'(queue_q[AtBits'(held_q-1'b1)][p]) + OutBits'(Bias);
    end
  end

  always_ff @(posedge ap_clk) begin
    if (push) queue_q <= {queue_q[QueueSize-2:0], found[Levels]};
    if (pop)  result_q <= result_d;
  end
  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      held_q  <= '0;
      valid_q <= 1'b0;
    end else begin
      held_q  <= held_q + CntBits'(push) - CntBits'(pop);
      if (!valid_q || out0_V_TREADY) valid_q <= pop;
    end
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(result_q);

  // What only stages need, and the padding of the stream.
  wire unused_ok = &{1'b0, fold[Levels], lane[Levels], element[Levels], in0_V_TDATA};

endmodule
