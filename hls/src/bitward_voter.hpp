// SPDX-License-Identifier: Apache-2.0
// Voter over beats of stored words, for Vitis HLS: the twin of hls/rtl/bitward_voter.sv and bitward_disagree.sv.
// Model: bitward.schemes.Tmr.decode of bitward.layout.BeatLayout; hls/src/voter_tb.cpp holds them together.
#ifndef BITWARD_VOTER_HPP
#define BITWARD_VOTER_HPP

#include <ap_int.h>
#include <hls_stream.h>

namespace bitward {

/// Where the bits of a beat stand: [copy 0][gap][copy 1][gap][copy 2][the rest]. Copies of a bit are 4 or more apart.
template <unsigned Words,  /// words per beat (PE*SIMD), at least 1
          unsigned Bits,   /// plain width of a word, at least 1
          unsigned Voted>  /// voted top bits: 0 none, 1 the MSB, Bits full TMR
struct Beat {
  static_assert(Words >= 1, "Words must be at least 1");
  static_assert(Bits >= 1, "Bits must be at least 1");
  static_assert(Voted <= Bits, "Voted must be 0 to Bits");
  static constexpr unsigned kPlain = Bits - Voted;     // unvoted bits of a word
  static constexpr unsigned kCopy = Words * Voted;     // bits of one copy of all voted bits
  static constexpr unsigned kFree = Words * kPlain;    // unvoted bits of a beat
  static constexpr unsigned kGap = kCopy == 0 || kCopy >= 4 ? 0 : 4 - kCopy;
  static constexpr unsigned kStep = kCopy + kGap;      // from one copy of a bit to the next
  static constexpr unsigned kWidth = 3 * kCopy + (kFree > 2 * kGap ? kFree : 2 * kGap);

  using Stored = ap_uint<kWidth>;
  using Plain = ap_uint<Words * Bits>;

  /// The place of unvoted bit `rank`, counted lane by lane: they fill the gaps first.
  static constexpr unsigned free_place(unsigned rank) {
    return rank < kGap ? kCopy + rank : rank < 2 * kGap ? 2 * kCopy + rank : 3 * kCopy + rank;
  }
};

/// The plain words of a beat, word l at l*Bits; `disagree` tells that two copies of some bit differ. Combinational.
template <unsigned Words, unsigned Bits, unsigned Voted>
typename Beat<Words, Bits, Voted>::Plain vote(const typename Beat<Words, Bits, Voted>::Stored &stored,
                                              bool &disagree) {
#pragma HLS INLINE
  using Place = Beat<Words, Bits, Voted>;
  typename Place::Plain words = 0;
  bool differs = false;
  for (unsigned lane = 0; lane < Words; lane++) {
#pragma HLS UNROLL
    for (unsigned bit = 0; bit < Place::kPlain; bit++) {
#pragma HLS UNROLL
      words[lane * Bits + bit] = stored[Place::free_place(lane * Place::kPlain + bit)];
    }
    for (unsigned top = 0; top < Voted; top++) {
#pragma HLS UNROLL
      const unsigned at = lane * Voted + top;
      const bool a = stored[at];
      const bool b = stored[at + Place::kStep];
      const bool c = stored[at + 2 * Place::kStep];
      words[lane * Bits + Place::kPlain + top] = (a && b) || (a && c) || (b && c);
      differs = differs || a != b || a != c;
    }
  }
  disagree = differs;
  return words;
}

/// `beats` beats of stored words in, as many of plain words out, one a cycle; returns in how many copies disagreed.
template <unsigned Words, unsigned Bits, unsigned Voted>
unsigned Voter_Batch(hls::stream<typename Beat<Words, Bits, Voted>::Stored> &in,
                     hls::stream<typename Beat<Words, Bits, Voted>::Plain> &out, unsigned beats) {
  unsigned corrected = 0;
  for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS PIPELINE II=1
    bool disagree = false;
    out.write(vote<Words, Bits, Voted>(in.read(), disagree));
    corrected += disagree;
  }
  return corrected;
}

}  // namespace bitward

#endif
