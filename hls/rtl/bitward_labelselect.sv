// SPDX-License-Identifier: Apache-2.0

/// The place of the greatest of Labels scores; the first of them where several are greatest.
/// Two stages, so that the tree within a beat and the comparison between beats do not add up.
module bitward_labelselect #(
  parameter  int unsigned Labels   = 10,  /// scores of a vector, a multiple of Pe
  parameter  int unsigned Pe       = 1,   /// scores a beat
  parameter  int unsigned Bits     = 8,   /// width of a score
  parameter  bit          Signed   = 0,   /// scores are two's complement
  parameter  int unsigned OutBits  = 8,   /// width of a label
  localparam int unsigned Bytes    = (Pe * Bits + 7) / 8,
  localparam int unsigned OutBytes = (OutBits + 7) / 8
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

  if (Pe == 0 || Labels == 0 || Labels % (Pe == 0 ? 1 : Pe) != 0) begin : gen_bad_folding
    $error("bitward_labelselect: Pe must divide Labels, got Pe=%0d Labels=%0d.", Pe, Labels);
  end
  if (Bits == 0 || OutBits < $clog2(Labels) || OutBits == 0) begin : gen_bad_parameters
    $error("bitward_labelselect: Bits must be at least 1 and OutBits hold Labels - 1 = %0d, got %0d and %0d.",
           Labels - 1, Bits, OutBits);
  end

  typedef struct packed {
    logic [Bits-1:0]    score;  // ordered as an unsigned number
    logic [OutBits-1:0] label;
  } entry_t;

  logic [OutBits-1:0] base_q;  // the label of a beat's first score
  logic               step, take, ends, first_q, last_q, beat_valid_q, valid_q;
  entry_t             beat_d, beat_q, best_d, best_q;

  assign step         = !valid_q || out0_V_TREADY;
  assign in0_V_TREADY = !beat_valid_q || step;
  assign take         = in0_V_TVALID && in0_V_TREADY;
  assign ends         = base_q == OutBits'(Labels - Pe);

  // ---- the greatest of a beat: a tree in which the left of two equal scores, the one of the lower label, wins
  always_comb begin
    entry_t [Pe-1:0] entry;
    for (int unsigned p = 0; p < Pe; p++) begin
      // Flipping the sign bit orders two's complement like unsigned numbers.
      entry[p].score = in0_V_TDATA[p*Bits+:Bits] ^ (Signed ? Bits'(1) << (Bits - 1) : '0);
      entry[p].label = base_q + OutBits'(p);
    end
    for (int unsigned apart = 1; apart < Pe; apart *= 2) begin
      for (int unsigned p = 0; p + apart < Pe; p += 2 * apart) begin
        if (entry[p+apart].score > entry[p].score) entry[p] = entry[p+apart];
      end
    end
    beat_d = entry[0];
  end

  // ---- the greatest so far
  assign best_d = first_q || beat_q.score > best_q.score ? beat_q : best_q;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      base_q       <= '0;
      beat_valid_q <= 1'b0;
      valid_q      <= 1'b0;
    end else begin
      if (take) base_q <= ends ? '0 : base_q + OutBits'(Pe);
      if (in0_V_TREADY) beat_valid_q <= take;
      if (step) valid_q <= beat_valid_q && last_q;
    end
  end
  always_ff @(posedge ap_clk) begin
    if (take) begin
      beat_q  <= beat_d;
      first_q <= base_q == '0;
      last_q  <= ends;
    end
    if (step && beat_valid_q) best_q <= best_d;
  end

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(best_q.label);

endmodule
