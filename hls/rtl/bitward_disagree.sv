// SPDX-License-Identifier: Apache-2.0

/// Whether the three copies that bitward_voter votes disagree in any bit. Combinational.
/// Model: any of bitward.schemes.Tmr.corrected of a beat's words. Same beat, same parameters as bitward_voter.
(* DONT_TOUCH = "yes", keep_hierarchy = "yes" *) module bitward_disagree #(
  parameter  int unsigned NumWords = 1,                /// words per beat (PE*SIMD)
  parameter  int unsigned Bits     = 4,                /// plain width of a word
  parameter  int unsigned Voted    = 1,                /// voted top bits: 0 none, Bits full TMR
  localparam int unsigned Plain    = Voted > Bits ? 0 : Bits - Voted,  // unvoted bits of a word
  localparam int unsigned Copy     = NumWords * Voted, // bits of one copy group
  localparam int unsigned Free     = NumWords * Plain,
  localparam int unsigned Gap      = Voted == 0 || Copy >= 4 ? 0 : 4 - Copy,
  localparam int unsigned Width    = 3 * Copy + (Free > 2 * Gap ? Free : 2 * Gap)
) (
  input  logic [Width-1:0] stored_i,                   /// one beat as it stands in memory
  output logic             corrected_o                 /// two copies of some bit differ
);

  if (Bits == 0 || NumWords == 0 || Voted > Bits) begin : gen_bad_parameters
    $error("bitward_disagree: Voted must be 0..Bits and NumWords, Bits at least 1, got NumWords=%0d Bits=%0d Voted=%0d.",
           NumWords, Bits, Voted);
  end

  if (Voted == 0) begin : gen_nothing_voted
    assign corrected_o = 1'b0;
  end else begin : gen_compare
    localparam int unsigned Step = Copy + Gap;
    wire [Copy-1:0] a = stored_i[0+:Copy];
    wire [Copy-1:0] b = stored_i[Step+:Copy];
    wire [Copy-1:0] c = stored_i[2*Step+:Copy];
    assign corrected_o = |((a ^ b) | (a ^ c));
  end

  wire unused_plain = &{1'b0, stored_i};

endmodule
