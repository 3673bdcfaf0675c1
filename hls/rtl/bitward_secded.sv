// SPDX-License-Identifier: Apache-2.0

/// Reads a beat under an extended Hamming code: one upset bit, a check bit too, is corrected, two are detected.
/// Combinational. Model: bitward.schemes.Secded.decode, corrected and detected; the beat, from bit 0 up, is
///   [word 0]..[word NumWords-1][Hamming check bits][parity of all the bits before]
/// Data bit d answers for the d-th number from 3 up that is no power of two, check bit i for 2^i: the syndrome, the
/// exclusive or of the numbers of all bits that are 1, is then the number of the one that is upset.
/// Three upsets and more may be read as one: what is corrected then is wrong.
(* keep_hierarchy = "yes" *) module bitward_secded #(
  parameter  int unsigned NumWords = 1,                /// words per beat (PE*SIMD)
  parameter  int unsigned Bits     = 4,                /// plain width of a word
  localparam int unsigned Data     = NumWords * Bits,
  // The least number h of check bits with 2^h >= Data + h + 1.
  localparam int unsigned Hamming  = $clog2(Data + 1 + $clog2(Data + 1)),
  localparam int unsigned Width    = Data + Hamming + 1
) (
  input  logic [Width-1:0] stored_i,                   /// one beat as it stands in memory
  output logic [Data-1:0]  word_o,                     /// plain words, word l at l*Bits
  output logic             corrected_o,                /// one bit was upset; word_o is right
  output logic             detected_o                  /// two bits or more were upset; word_o is as stored
);

  if (Bits == 0 || NumWords == 0) begin : gen_bad_parameters
    $error("bitward_secded: NumWords and Bits must be at least 1, got NumWords=%0d Bits=%0d.", NumWords, Bits);
  end

  // The number of data bit d: d + 1, moved past each power of two on the way.
  function automatic int unsigned number(int unsigned d);
    int unsigned n = d + 1;
    for (int unsigned power = 1; power <= n; power *= 2) n++;
    return n;
  endfunction

  localparam int unsigned Highest = number(Data - 1);

  logic [Hamming-1:0] syndrome;
  logic               odd, one;

  for (genvar i = 0; i < Hamming; i++) begin : gen_syndrome
    wire [Data-1:0] covered;
    for (genvar d = 0; d < Data; d++) begin : gen_bit
      localparam int unsigned Number = number(d);
      assign covered[d] = Number[i] && stored_i[d];
    end
    assign syndrome[i] = (^covered) ^ stored_i[Data+i];
  end
  assign odd = ^stored_i;
  // An odd number of upsets is taken for one, if it points at a bit. Check bits have numbers below Highest: with fewer
  // of them the code would do.
  if (Highest == 2 ** Hamming - 1) begin : gen_every_number_taken
    assign one = odd;
  end else begin : gen_some_numbers_free
    assign one = odd && syndrome <= Hamming'(Highest);
  end

  for (genvar d = 0; d < Data; d++) begin : gen_word
    localparam int unsigned Number = number(d);
    assign word_o[d] = stored_i[d] ^ (odd && syndrome == Hamming'(Number));
  end
  assign corrected_o = one;
  assign detected_o  = !one && (odd || syndrome != '0);

endmodule
