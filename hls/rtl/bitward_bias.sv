// SPDX-License-Identifier: Apache-2.0

/// Each channel plus its bias, which is a stored word: row f of the memory holds the biases of channels f*Pe to
/// f*Pe + Pe - 1, lane p that of the p-th. Sums are kept modulo 2^OutBits. One beat a cycle.
module bitward_bias #(
  parameter  int unsigned Channels  = 2,
  parameter  int unsigned Pe        = 1,        /// channels a beat
  parameter  int unsigned InBits    = 16,       /// width of an element
  parameter  bit          InSigned  = 1,        /// elements are two's complement
  parameter  int unsigned BiasBits  = 8,        /// plain width of a bias, two's complement
  parameter  int unsigned Voted     = 0,        /// voted top bits of a stored bias
  parameter  bit          Secded    = 0,        /// a row is one SEC-DED codeword (then Voted must be 0)
  parameter  int unsigned OutBits   = 17,       /// width of a sum
  parameter               InitFile  = "",       /// stored words, one row a line, hexadecimal
  parameter               RamStyle  = "block",  /// block, ultra or distributed
  localparam int unsigned Depth     = Channels / Pe,
  localparam int unsigned PlainBits = Pe * BiasBits,
  localparam int unsigned Copy      = Pe * Voted,
  localparam int unsigned Free      = Pe * (Voted > BiasBits ? 0 : BiasBits - Voted),
  localparam int unsigned Gap       = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned Hamming   = $clog2(PlainBits + 1 + $clog2(PlainBits + 1)),  // as in bitward_secded
  localparam int unsigned Stored    = Secded ? PlainBits + Hamming + 1 :
                                               3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap),
  localparam int unsigned AddrBits  = $clog2(Depth * (2 ** $clog2((Stored + 31) / 32))) + 2,
  localparam int unsigned InBytes   = (Pe * InBits + 7) / 8,
  localparam int unsigned OutBytes  = (Pe * OutBits + 7) / 8
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

  output logic                  corrected_o,  /// one cycle for each row used whose redundancy settled an upset
  output logic                  detected_o    /// one cycle for each row used though known to be wrong
);

  if (Pe == 0 || Channels == 0 || Channels % Pe != 0) begin : gen_bad_folding
    $error("bitward_bias: Pe must divide Channels, got Channels=%0d Pe=%0d.", Channels, Pe);
  end
  if (InBits == 0 || BiasBits == 0 || OutBits == 0) begin : gen_bad_bits
    $error("bitward_bias: widths must be at least 1, got InBits=%0d BiasBits=%0d OutBits=%0d.",
           InBits, BiasBits, OutBits);
  end

  logic                       bias_valid, step, valid_q;
  logic [Pe-1:0][BiasBits-1:0] bias;
  logic [Pe-1:0][OutBits-1:0] sum_q;

  bitward_weights #(
    .Depth(Depth), .Lanes(Pe), .WeightBits(BiasBits), .Voted(Voted), .Secded(Secded),
    .InitFile(InitFile), .RamStyle(RamStyle)
  ) i_biases (
    .ap_clk, .ap_rst_n,
    .s_axilite_AWVALID, .s_axilite_AWREADY, .s_axilite_AWADDR,
    .s_axilite_WVALID, .s_axilite_WREADY, .s_axilite_WDATA,
    .s_axilite_BVALID, .s_axilite_BREADY, .s_axilite_BRESP,
    .s_axilite_ARVALID, .s_axilite_ARREADY, .s_axilite_ARADDR,
    .s_axilite_RVALID, .s_axilite_RREADY, .s_axilite_RDATA, .s_axilite_RRESP,
    .valid_o(bias_valid), .ready_i(in0_V_TVALID && step), .word_o(bias), .corrected_o, .detected_o
  );

  // A sum leaves before the next one may come.
  assign step         = !valid_q || out0_V_TREADY;
  assign in0_V_TREADY = bias_valid && step;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) valid_q <= 1'b0;
    else if (step) valid_q <= in0_V_TVALID && bias_valid;
  end

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    wire [InBits-1:0]         x     = in0_V_TDATA[p*InBits+:InBits];
    wire signed [InBits:0]    left  = {InSigned && x[InBits-1], x};
    wire signed [BiasBits-1:0] right = bias[p];
    always_ff @(posedge ap_clk) if (step) sum_q[p] <= OutBits'(left) + OutBits'(right);
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(sum_q);

endmodule
