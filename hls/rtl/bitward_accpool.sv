// SPDX-License-Identifier: Apache-2.0

/// Sum of each channel over all Pixels of an image. The sums leave while the last pixel comes, one beat behind it,
/// and the next image follows at once: no beat is waited for as long as the sums are taken.
module bitward_accpool #(
  parameter  int unsigned Channels = 1,  /// channels of a pixel, a multiple of Pe
  parameter  int unsigned Pe       = 1,  /// channels a beat
  parameter  int unsigned Bits     = 4,  /// width of a channel
  parameter  bit          Signed   = 0,  /// channels are two's complement
  parameter  int unsigned Pixels   = 4,  /// pixels an image
  parameter  int unsigned OutBits  = 6,  /// width of a sum, enough for any
  localparam int unsigned Folds    = Channels / (Pe == 0 ? 1 : Pe),
  localparam int unsigned Bytes    = (Pe * Bits + 7) / 8,
  localparam int unsigned OutBytes = (Pe * OutBits + 7) / 8,
  localparam int unsigned FoldBits = Folds > 1 ? $clog2(Folds) : 1,
  localparam int unsigned CntBits  = Pixels > 1 ? $clog2(Pixels) : 1
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*Bytes-1:0]    in0_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA
);

  if (Pe == 0 || Folds == 0 || Channels % (Pe == 0 ? 1 : Pe) != 0) begin : gen_bad_folding
    $error("bitward_accpool: Pe must divide Channels, got Pe=%0d Channels=%0d.", Pe, Channels);
  end
  if (Bits == 0 || Pixels == 0 || OutBits < Bits) begin : gen_bad_parameters
    $error("bitward_accpool: Bits and Pixels must be at least 1 and OutBits at least Bits, got %0d, %0d, %0d.",
           Bits, Pixels, OutBits);
  end

  logic [FoldBits-1:0]        fold_q, next_fold;
  logic [CntBits-1:0]         pixel_q;
  logic                       pixel_ends, first, last, take, valid_q;
  logic [Pe-1:0][OutBits-1:0] so_far, sum, sum_q;

  assign pixel_ends   = fold_q == FoldBits'(Folds - 1);
  assign next_fold    = pixel_ends ? '0 : fold_q + 1'b1;
  assign first        = pixel_q == '0;
  assign last         = pixel_q == CntBits'(Pixels - 1);
  assign in0_V_TREADY = !valid_q || out0_V_TREADY;
  assign take         = in0_V_TVALID && in0_V_TREADY;

  for (genvar p = 0; p < Pe; p++) begin : gen_lane
    wire [Bits-1:0] x = in0_V_TDATA[p*Bits+:Bits];
    assign sum[p] = (first ? '0 : so_far[p]) + (Signed ? OutBits'(signed'(x)) : OutBits'(x));
  end

  if (Folds == 1) begin : gen_register
    assign so_far = sum_q;
  end else begin : gen_memory
    // The fold that comes next was written at least a beat ago: a RAM with a registered read will do.
    logic [Pe*OutBits-1:0] memory [Folds];
    logic [Pe*OutBits-1:0] read_q;
    always_ff @(posedge ap_clk) begin
      if (take) begin
        memory[fold_q] <= sum;
        read_q         <= memory[next_fold];
      end
    end
    assign so_far = read_q;
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      fold_q  <= '0;
      pixel_q <= '0;
      valid_q <= 1'b0;
    end else begin
      if (take) begin
        fold_q <= next_fold;
        if (pixel_ends) pixel_q <= last ? '0 : pixel_q + 1'b1;
      end
      if (in0_V_TREADY) valid_q <= take && last;
    end
  end
  always_ff @(posedge ap_clk) if (take) sum_q <= sum;

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(sum_q);

endmodule
