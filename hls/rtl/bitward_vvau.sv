// SPDX-License-Identifier: Apache-2.0

/// A depthwise unit: each channel's own dot product over the taps of a window, with weights that are stored words.
///
/// A beat has Simd taps of Pe channels, channel p of tap s at lane s*Pe + p: the order of FINN's depthwise
/// ConvolutionInputGenerator, which sends all taps of Pe channels before those of the next. The weights of that beat are
/// one row, that of channel p and tap s at lane p*Simd + s. Sums are kept modulo 2^AccBits.
module bitward_vvau #(
  parameter  int unsigned Taps       = 9,        /// of a window: kernel height * width
  parameter  int unsigned Channels   = 2,
  parameter  int unsigned Pe         = 1,        /// channels computed in parallel
  parameter  int unsigned Simd       = 1,        /// taps taken in parallel
  parameter  int unsigned WeightBits = 4,        /// plain width of a weight, two's complement
  parameter  int unsigned Voted      = 0,        /// voted top bits of a stored weight
  parameter  bit          Secded     = 0,        /// a row is one SEC-DED codeword (then Voted must be 0)
  parameter  int unsigned ActBits    = 4,        /// width of an activation
  parameter  bit          ActSigned  = 0,        /// activations are two's complement
  parameter  int unsigned AccBits    = 16,       /// width of a sum that leaves
  parameter               InitFile   = "",       /// stored words, one row a line, hexadecimal
  parameter               RamStyle   = "block",  /// block, ultra or distributed
  localparam int unsigned Depth      = (Taps / Simd) * (Channels / Pe),
  localparam int unsigned Lanes      = Pe * Simd,
  localparam int unsigned PlainBits  = Lanes * WeightBits,
  localparam int unsigned Copy       = Lanes * Voted,
  localparam int unsigned Free       = Lanes * (Voted > WeightBits ? 0 : WeightBits - Voted),
  localparam int unsigned Gap        = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned Hamming    = $clog2(PlainBits + 1 + $clog2(PlainBits + 1)),  // as in bitward_secded
  localparam int unsigned Stored     = Secded ? PlainBits + Hamming + 1 :
                                                3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap),
  localparam int unsigned AddrBits   = $clog2(Depth * (2 ** $clog2((Stored + 31) / 32))) + 2,
  localparam int unsigned InBytes    = (Lanes * ActBits + 7) / 8,
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

  if (Pe == 0 || Simd == 0 || Taps == 0 || Channels == 0 || Taps % Simd != 0 || Channels % Pe != 0) begin : gen_bad_folding
    $error("bitward_vvau: Simd must divide Taps and Pe must divide Channels, got Taps=%0d Simd=%0d Channels=%0d Pe=%0d.",
           Taps, Simd, Channels, Pe);
  end
  if (WeightBits == 0 || ActBits == 0 || AccBits == 0) begin : gen_bad_bits
    $error("bitward_vvau: widths must be at least 1, got WeightBits=%0d ActBits=%0d AccBits=%0d.",
           WeightBits, ActBits, AccBits);
  end

  localparam int unsigned Beats    = Taps / Simd;                   // of a window and Pe channels
  localparam int unsigned CntBits  = Beats > 1 ? $clog2(Beats) : 1;
  localparam int unsigned Levels   = $clog2(Simd);                  // of the adder tree
  localparam int unsigned Stages   = 2 + Levels;                    // operands, products, tree; then the sum
  localparam int unsigned ProdBits = WeightBits + ActBits + 1;      // an unsigned activation has a sign bit added

  logic                 weight_valid, step, take, sum_valid, sum_last, fresh_q, valid_q;
  logic [PlainBits-1:0] weights, weights_q;
  logic [CntBits-1:0]   beat_of_window_q;
  logic [Stages-1:0]    pipe_valid_q, pipe_last_q;

  logic [Lanes*ActBits-1:0]   acts_q;
  logic [Pe-1:0][AccBits-1:0] acc_q;

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
    .valid_o(weight_valid), .ready_i(in0_V_TVALID && step), .word_o(weights), .corrected_o, .detected_o
  );

  // The pipeline moves as one: it stands while a sum waits to be taken.
  assign step         = !valid_q || out0_V_TREADY;
  assign in0_V_TREADY = weight_valid && step;
  assign take         = in0_V_TVALID && in0_V_TREADY;
  assign sum_valid    = pipe_valid_q[Stages-1];
  assign sum_last     = pipe_last_q[Stages-1];

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      beat_of_window_q <= '0;
      pipe_valid_q     <= '0;
      fresh_q          <= 1'b1;
      valid_q          <= 1'b0;
    end else begin
      if (take) beat_of_window_q <= beat_of_window_q == CntBits'(Beats - 1) ? '0 : beat_of_window_q + 1'b1;
      if (step) begin
        pipe_valid_q <= {pipe_valid_q[Stages-2:0], take};
        valid_q      <= sum_valid && sum_last;
        if (sum_valid) fresh_q <= sum_last;
      end
    end
  end
  always_ff @(posedge ap_clk) begin
    if (step) begin
      pipe_last_q <= {pipe_last_q[Stages-2:0], beat_of_window_q == CntBits'(Beats - 1)};
      weights_q   <= weights;
      acts_q      <= in0_V_TDATA[Lanes*ActBits-1:0];
    end
  end

  for (genvar p = 0; p < Pe; p++) begin : gen_channel
    for (genvar l = 0; l <= Levels; l++) begin : gen_level
      localparam int unsigned Terms = (Simd + 2 ** l - 1) / 2 ** l;
      localparam int unsigned Wide  = ProdBits + l;
      logic signed [Wide-1:0] term_q [Terms];

      for (genvar t = 0; t < Terms; t++) begin : gen_term
        if (l == 0) begin : gen_product
          wire signed [WeightBits-1:0] weight = weights_q[(p*Simd+t)*WeightBits+:WeightBits];
          wire        [ActBits-1:0]    bits   = acts_q[(t*Pe+p)*ActBits+:ActBits];
          wire signed [ActBits:0]      act    = {ActSigned && bits[ActBits-1], bits};
          always_ff @(posedge ap_clk) if (step) term_q[t] <= Wide'(weight) * Wide'(act);
        end else if (2 * t + 1 < (Simd + 2 ** (l - 1) - 1) / 2 ** (l - 1)) begin : gen_sum
          always_ff @(posedge ap_clk) begin
            if (step) term_q[t] <= Wide'(gen_level[l-1].term_q[2*t]) + Wide'(gen_level[l-1].term_q[2*t+1]);
          end
        end else begin : gen_odd_one_out
          always_ff @(posedge ap_clk) if (step) term_q[t] <= Wide'(gen_level[l-1].term_q[2*t]);
        end
      end
    end

    wire [AccBits-1:0] sum_so_far = fresh_q ? '0 : acc_q[p];
    always_ff @(posedge ap_clk) begin
      if (step && sum_valid) acc_q[p] <= sum_so_far + AccBits'(gen_level[Levels].term_q[0]);
    end
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(acc_q);

endmodule
