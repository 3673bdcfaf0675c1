// SPDX-License-Identifier: Apache-2.0

/// FINN's matrix-vector unit twice, on the same stream: as Verilator sees it (behavioural), and as Vivado compiles it
/// (DSP48E2 slices, here by their model). Random weights and activations with many extreme ones, random zeroed beats;
/// every result must be equal, and the dot product. `en` is always 1, as FINN's wrapper has it, which waits by `zero`:
/// without `en` the unit still obeys `zero`, and loses sums. For simulation only.
module bitward_mvu_twins #(
  parameter int unsigned Pe         = 1,
  parameter int unsigned Simd       = 1,
  parameter int unsigned WeightBits = 4,
  parameter int unsigned ActBits    = 4,
  parameter bit          ActSigned  = 0,
  parameter int unsigned AccBits    = 16,
  parameter int unsigned Beats      = 4    /// beats of one dot product: MW / SIMD
) (
  input  logic        ap_clk,
  input  logic        ap_rst_n,
  output logic [31:0] compared_o,          /// results of the behavioural twin
  output logic [31:0] different_o          /// of them, those that the DSP twin did not give alike, or that are no dot product
);

  localparam int unsigned WeightWidth = Pe * Simd * WeightBits;
  localparam int unsigned ActWidth    = Simd * ActBits;

  logic                                       last, zero, vld, vld_dsp;
  logic [Pe-1:0][Simd-1:0][WeightBits-1:0]    w;
  logic [Simd-1:0][ActBits-1:0]               a;
  logic [Pe-1:0][AccBits-1:0]                 p, p_dsp;
  logic [31:0]                                beat_q;

  // A quarter each: anything, all extremes of one kind, of the other, and a mix of extremes.
  function automatic logic [WeightBits-1:0] weight(input int unsigned kind);
    automatic logic [WeightBits-1:0] lowest  = WeightBits'(1) << (WeightBits - 1);
    automatic logic [WeightBits-1:0] highest = lowest - 1;
    case (kind)
      0: return WeightBits'($urandom);
      1: return lowest;
      2: return highest;
      default: return $urandom % 2 == 0 ? lowest : highest;
    endcase
  endfunction
  function automatic logic [ActBits-1:0] activation(input int unsigned kind);
    automatic logic [ActBits-1:0] extreme = ActSigned ? ActBits'(1) << (ActBits - 1) : '1;
    case (kind)
      0: return ActBits'($urandom);
      1: return extreme;
      2: return ActSigned ? extreme - 1'b1 : '0;
      default: return $urandom % 2 == 0 ? extreme : ActBits'($urandom);
    endcase
  endfunction

  always_ff @(posedge ap_clk) begin
    automatic bit          skip = !ap_rst_n || $urandom % 5 == 0;
    automatic int unsigned kind = $urandom % 4;
    automatic int unsigned ends = $urandom % 4;
    zero <= skip;
    last <= !skip && beat_q == 0;
    for (int unsigned s = 0; s < Simd; s++) begin
      a[s] <= activation(ends);
      for (int unsigned i = 0; i < Pe; i++) w[i][s] <= weight(kind);
    end
    if (!ap_rst_n) beat_q <= Beats - 1;
    else if (!skip) beat_q <= beat_q == 0 ? Beats - 1 : beat_q - 1;
  end

  // The dot products of the beats taken, in the order in which they will be given.
  logic [Pe-1:0][AccBits-1:0] expected[$], sum_q;
  always_ff @(posedge ap_clk) begin
    automatic logic [Pe-1:0][AccBits-1:0] sum = sum_q;
    if (!ap_rst_n) begin
      sum_q       <= '0;
      compared_o  <= '0;
      different_o <= '0;
      expected.delete();
    end else begin
      if (vld || vld_dsp) begin
        compared_o  <= compared_o + 1;
        different_o <= different_o + 32'(vld != vld_dsp || p != p_dsp || p != expected[0]);
      end
      for (int unsigned i = 0; i < Pe; i++) begin
        for (int unsigned s = 0; s < Simd; s++) begin
          automatic int weight_value = 32'(signed'(w[i][s]));
          automatic int act_value    = ActSigned ? 32'(signed'(a[s])) : 32'(a[s]);
          if (!zero) sum[i] += AccBits'(weight_value * act_value);
        end
      end
      sum_q <= last ? '0 : sum;
      if (vld) void'(expected.pop_front());
      if (last) expected.push_back(sum);
    end
  end

  mvu #(
    .VERSION(2), .PE(Pe), .SIMD(Simd), .WEIGHT_WIDTH(WeightBits), .ACTIVATION_WIDTH(ActBits), .ACCU_WIDTH(AccBits),
    .SIGNED_ACTIVATIONS(ActSigned), .NARROW_WEIGHTS(0)
  ) i_behavioural (.clk(ap_clk), .rst(!ap_rst_n), .en(1'b1), .last, .zero, .w, .a, .vld, .p);

  mvu_dsp #(
    .VERSION(2), .PE(Pe), .SIMD(Simd), .WEIGHT_WIDTH(WeightBits), .ACTIVATION_WIDTH(ActBits), .ACCU_WIDTH(AccBits),
    .SIGNED_ACTIVATIONS(ActSigned), .NARROW_WEIGHTS(0)
  ) i_dsp (.clk(ap_clk), .rst(!ap_rst_n), .en(1'b1), .last, .zero, .w, .a, .vld(vld_dsp), .p(p_dsp));

endmodule
