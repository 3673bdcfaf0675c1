// SPDX-License-Identifier: Apache-2.0

/// A matrix-vector unit whose weights are stored words: bitward_weights -> FINN's mvu_vvu_axi.
module bitward_mvau #(
  parameter  int unsigned Mw         = 1,        /// matrix width: inputs of a dot product
  parameter  int unsigned Mh         = 1,        /// matrix height: outputs
  parameter  int unsigned Pe         = 1,        /// outputs computed in parallel
  parameter  int unsigned Simd       = 1,        /// inputs taken in parallel
  parameter  int unsigned WeightBits = 4,        /// plain width of a weight
  parameter  int unsigned Voted      = 0,        /// voted top bits of a stored weight
  parameter  bit          Secded     = 0,        /// a row is one SEC-DED codeword (then Voted must be 0)
  parameter  int unsigned ActBits    = 4,        /// width of an activation
  parameter  bit          ActSigned  = 0,        /// activations are signed
  parameter  int unsigned AccBits    = 16,       /// width of an accumulator
  parameter  int unsigned DspVersion = 2,        /// FINN's VERSION: 1 DSP48E1, 2 DSP48E2, 3 DSP58
  parameter               InitFile   = "",       /// stored words, one beat a line, hexadecimal
  parameter               RamStyle   = "block",  /// block, ultra or distributed
  localparam int unsigned Depth      = (Mw / Simd) * (Mh / Pe),
  localparam int unsigned Lanes      = Pe * Simd,
  localparam int unsigned Copy       = Lanes * Voted,
  localparam int unsigned Free       = Lanes * (Voted > WeightBits ? 0 : WeightBits - Voted),
  localparam int unsigned Gap        = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned PlainBits  = Lanes * WeightBits,
  localparam int unsigned Hamming    = $clog2(PlainBits + 1 + $clog2(PlainBits + 1)),  // as in bitward_secded
  localparam int unsigned Stored     = Secded ? PlainBits + Hamming + 1 :
                                                3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap),
  localparam int unsigned AddrBits   = $clog2(Depth * (2 ** $clog2((Stored + 31) / 32))) + 2,
  localparam int unsigned InBytes    = (Simd * ActBits + 7) / 8,
  localparam int unsigned OutBytes   = (Pe * AccBits + 7) / 8
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

  output logic                  corrected_o,     /// one cycle for each row used whose redundancy settled an upset
  output logic                  detected_o       /// one cycle for each row used though known to be wrong
);

  if (Pe == 0 || Simd == 0 || Mw % Simd != 0 || Mh % Pe != 0 || Mw == 0 || Mh == 0) begin : gen_bad_folding
    $error("bitward_mvau: Simd must divide Mw and Pe must divide Mh, got Mw=%0d Simd=%0d Mh=%0d Pe=%0d.",
           Mw, Simd, Mh, Pe);
  end
  localparam int unsigned PlainBytes = (PlainBits + 7) / 8;

  logic                 weight_valid, weight_ready;
  logic [PlainBits-1:0] weight;

  bitward_weights #(
    .Depth(Depth), .Lanes(Lanes), .WeightBits(WeightBits), .Voted(Voted), .Secded(Secded),
    .InitFile(InitFile), .RamStyle(RamStyle)
  ) i_weights (
    .ap_clk, .ap_rst_n,
    .s_axilite_AWVALID, .s_axilite_AWREADY, .s_axilite_AWADDR,
    .s_axilite_WVALID, .s_axilite_WREADY, .s_axilite_WDATA,
    .s_axilite_BVALID, .s_axilite_BREADY, .s_axilite_BRESP,
    .s_axilite_ARVALID, .s_axilite_ARREADY, .s_axilite_ARADDR,
    .s_axilite_RVALID, .s_axilite_RREADY, .s_axilite_RDATA, .s_axilite_RRESP,
    .valid_o(weight_valid), .ready_i(weight_ready), .word_o(weight), .corrected_o, .detected_o
  );

  mvu_vvu_axi #(
    .IS_MVU(1), .VERSION(DspVersion), .PUMPED_COMPUTE(0),
    .MW(Mw), .MH(Mh), .PE(Pe), .SIMD(Simd),
    .ACTIVATION_WIDTH(ActBits), .WEIGHT_WIDTH(WeightBits), .ACCU_WIDTH(AccBits),
    // A flipped weight may be the most negative one, whatever the trained weights are.
    .NARROW_WEIGHTS(0), .SIGNED_ACTIVATIONS(ActSigned), .SEGMENTLEN(0)
  ) i_mvu (
    .ap_clk, .ap_clk2x(ap_clk), .ap_rst_n,
    .s_axis_weights_tdata((8*PlainBytes)'(weight)), .s_axis_weights_tvalid(weight_valid), .s_axis_weights_tready(weight_ready),
    .s_axis_input_tdata(in0_V_TDATA), .s_axis_input_tvalid(in0_V_TVALID), .s_axis_input_tready(in0_V_TREADY),
    .m_axis_output_tdata(out0_V_TDATA), .m_axis_output_tvalid(out0_V_TVALID), .m_axis_output_tready(out0_V_TREADY)
  );

endmodule
