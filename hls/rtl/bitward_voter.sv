// SPDX-License-Identifier: Apache-2.0

/// Majority over the top Voted bits of each word, after the beat's layout is undone. Combinational.
/// Model: bitward.schemes.Tmr.decode of bitward.layout.BeatLayout.unpack; the beat, from bit 0 up, is
///   [copy 0][Gap slots][copy 1][Gap slots][copy 2][the other unvoted bits]
/// with the copies lane-major and Gap slots such that two copies of a bit are at least 4 bits apart.
(* DONT_TOUCH = "yes", keep_hierarchy = "yes" *) module bitward_voter #(
  parameter  int unsigned NumWords = 1,                /// words per beat (PE*SIMD)
  parameter  int unsigned Bits     = 4,                /// plain width of a word
  parameter  int unsigned Voted    = 1,                /// voted top bits: 0 none, Bits full TMR
  localparam int unsigned Plain    = Voted > Bits ? 0 : Bits - Voted,  // unvoted bits of a word
  localparam int unsigned Copy     = NumWords * Voted, // bits of one copy group
  localparam int unsigned Free     = NumWords * Plain,
  localparam int unsigned Gap      = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned Width    = 3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap)
) (
  input  logic [Width-1:0]         stored_i,           /// one beat as it stands in memory
  output logic [NumWords*Bits-1:0] word_o              /// plain words, word l at l*Bits
);

  if (Bits == 0 || NumWords == 0 || Voted > Bits) begin : gen_bad_parameters
    $error("bitward_voter: Voted must be 0..Bits and NumWords, Bits at least 1, got NumWords=%0d Bits=%0d Voted=%0d.",
           NumWords, Bits, Voted);
  end

  localparam int unsigned Copy1 = Copy + Gap;
  localparam int unsigned Copy2 = 2 * (Copy + Gap);

  for (genvar l = 0; l < NumWords; l++) begin : gen_word
    for (genvar v = 0; v < Voted; v++) begin : gen_voted
      localparam int unsigned At = l * Voted + v;
      wire a = stored_i[At];
      wire b = stored_i[Copy1+At];
      wire c = stored_i[Copy2+At];
      assign word_o[l*Bits+Plain+v] = (a & b) | (a & c) | (b & c);
    end
    for (genvar i = 0; i < Plain; i++) begin : gen_plain
      localparam int unsigned J  = l * Plain + i;
      localparam int unsigned At = J < Gap     ? Copy + J :
                                   J < 2 * Gap ? 2 * Copy + J :
                                                 3 * Copy + J;
      assign word_o[l*Bits+i] = stored_i[At];
    end
  end

  // Slots of the gaps that hold no bit are padding; nothing reads them.
  if (Free < 2 * Gap) begin : gen_padding
    wire unused_padding = &{1'b0, stored_i};
  end

endmodule
