// SPDX-License-Identifier: Apache-2.0

/// A memory of weights as stored words, read from row 0 up again and again: memory (stored width, readable and writable
/// over AXI-Lite) -> registered voter or SEC-DED decoder -> the plain words of a row. Plain weights have no such stage.
module bitward_weights #(
  parameter  int unsigned Depth      = 2,        /// rows
  parameter  int unsigned Lanes      = 1,        /// weights a row
  parameter  int unsigned WeightBits = 4,        /// plain width of a weight
  parameter  int unsigned Voted      = 0,        /// voted top bits of a stored weight
  parameter  bit          Secded     = 0,        /// a row is one SEC-DED codeword (then Voted must be 0)
  parameter               InitFile   = "",       /// stored words, one row a line, hexadecimal
  parameter               RamStyle   = "block",  /// block, ultra or distributed
  localparam int unsigned PlainBits  = Lanes * WeightBits,
  localparam int unsigned Copy       = Lanes * Voted,
  localparam int unsigned Free       = Lanes * (Voted > WeightBits ? 0 : WeightBits - Voted),
  localparam int unsigned Gap        = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned Hamming    = $clog2(PlainBits + 1 + $clog2(PlainBits + 1)),  // as in bitward_secded
  localparam int unsigned Stored     = Secded ? PlainBits + Hamming + 1 :
                                                3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap),
  localparam int unsigned AddrBits   = $clog2(Depth * (2 ** $clog2((Stored + 31) / 32))) + 2
) (
  input  logic                 ap_clk,
  input  logic                 ap_rst_n,

  input  logic                 s_axilite_AWVALID,
  output logic                 s_axilite_AWREADY,
  input  logic [AddrBits-1:0]  s_axilite_AWADDR,
  input  logic                 s_axilite_WVALID,
  output logic                 s_axilite_WREADY,
  input  logic [31:0]          s_axilite_WDATA,
  output logic                 s_axilite_BVALID,
  input  logic                 s_axilite_BREADY,
  output logic [1:0]           s_axilite_BRESP,
  input  logic                 s_axilite_ARVALID,
  output logic                 s_axilite_ARREADY,
  input  logic [AddrBits-1:0]  s_axilite_ARADDR,
  output logic                 s_axilite_RVALID,
  input  logic                 s_axilite_RREADY,
  output logic [31:0]          s_axilite_RDATA,
  output logic [1:0]           s_axilite_RRESP,

  output logic                 valid_o,       /// a row is there; it stays until it is taken
  input  logic                 ready_i,
  output logic [PlainBits-1:0] word_o,        /// its plain words, word l at l*WeightBits
  output logic                 corrected_o,   /// one cycle for each row taken whose redundancy settled an upset
  output logic                 detected_o     /// one cycle for each row taken though known to be wrong
);

  if (Depth == 0 || Lanes == 0 || WeightBits == 0 || Voted > WeightBits) begin : gen_bad_voted
    $error("bitward_weights: Voted must be 0..WeightBits and the sizes at least 1, got %0d of %0d, Depth=%0d Lanes=%0d.",
           Voted, WeightBits, Depth, Lanes);
  end
  if (Secded && Voted != 0) begin : gen_bad_scheme
    $error("bitward_weights: Voted must be 0 with Secded, got Voted=%0d.", Voted);
  end

  localparam int unsigned StoredBytes = (Stored + 7) / 8;

  logic                     stored_valid, stored_ready;
  logic [8*StoredBytes-1:0] stored;

  memstream_axi #(
    .SETS(1), .DEPTH(Depth), .WIDTH(Stored), .INIT_FILE(InitFile), .RAM_STYLE(RamStyle)
  ) i_memory (
    .clk(ap_clk), .clk2x(ap_clk), .rst(!ap_rst_n),
    .awready(s_axilite_AWREADY), .awvalid(s_axilite_AWVALID), .awprot('0), .awaddr(s_axilite_AWADDR),
    .wready(s_axilite_WREADY), .wvalid(s_axilite_WVALID), .wdata(s_axilite_WDATA), .wstrb('1),
    .bready(s_axilite_BREADY), .bvalid(s_axilite_BVALID), .bresp(s_axilite_BRESP),
    .arready(s_axilite_ARREADY), .arvalid(s_axilite_ARVALID), .arprot('0), .araddr(s_axilite_ARADDR),
    .rready(s_axilite_RREADY), .rvalid(s_axilite_RVALID), .rresp(s_axilite_RRESP), .rdata(s_axilite_RDATA),
    .s_axis_0_tready(), .s_axis_0_tvalid('0), .s_axis_0_tdata('0),
    .m_axis_0_tready(stored_ready), .m_axis_0_tvalid(stored_valid), .m_axis_0_tdata(stored)
  );

  if (Voted == 0 && !Secded) begin : gen_plain
    assign valid_o      = stored_valid;
    assign stored_ready = ready_i;
    assign word_o       = stored[PlainBits-1:0];
    assign corrected_o  = 1'b0;
    assign detected_o   = 1'b0;
  end else begin : gen_protected
    logic [PlainBits-1:0] word, word_q;
    logic                 corrected, detected, corrected_q, detected_q, valid_q;

    if (Secded) begin : gen_secded
      bitward_secded #(.NumWords(Lanes), .Bits(WeightBits)) i_decoder (
        .stored_i(stored[Stored-1:0]), .word_o(word), .corrected_o(corrected), .detected_o(detected)
      );
    end else begin : gen_voter
      bitward_voter #(.NumWords(Lanes), .Bits(WeightBits), .Voted(Voted)) i_voter (
        .stored_i(stored[Stored-1:0]), .word_o(word)
      );
      bitward_disagree #(.NumWords(Lanes), .Bits(WeightBits), .Voted(Voted)) i_disagree (
        .stored_i(stored[Stored-1:0]), .corrected_o(corrected)
      );
      assign detected = 1'b0;
    end

    assign stored_ready = ready_i || !valid_q;
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n)         valid_q <= 1'b0;
      else if (stored_ready) valid_q <= stored_valid;
    end
    always_ff @(posedge ap_clk) begin
      if (stored_ready) begin
        word_q      <= word;
        corrected_q <= corrected;
        detected_q  <= detected;
      end
    end

    assign valid_o     = valid_q;
    assign word_o      = word_q;
    // Counted when the row is taken: rows that are only read ahead are no reads.
    assign corrected_o = valid_q && ready_i && corrected_q;
    assign detected_o  = valid_q && ready_i && detected_q;
  end

endmodule
