// SPDX-License-Identifier: Apache-2.0
// voter_tb WORDS BITS VOTED IN OUT: the stored beats of IN through Voter_Batch; OUT has, for each, the plain words and
// whether copies disagreed. Every combination of the widths below is compiled in.
#include <cstdlib>
#include <utility>

#include "bitward_voter.hpp"
#include "testbench.hpp"

#ifndef MOST_BITS
#define MOST_BITS 8
#endif

namespace {

using bitward::Segments;

template <unsigned Words, unsigned Bits, unsigned Voted>
Segments run(const Segments &given) {
  using Place = bitward::Beat<Words, Bits, Voted>;
  constexpr unsigned kSegments = bitward::segments(Place::kWidth);
  hls::stream<typename Place::Stored> in;
  hls::stream<typename Place::Plain> out;
  Segments found;
  for (size_t at = 0; at + kSegments <= given.size(); at += kSegments) {
    in.write(bitward::unpack<Place::kWidth>(given, at));
    const unsigned corrected = bitward::Voter_Batch<Words, Bits, Voted>(in, out, 1);
    bitward::pack<Words * Bits>(out.read(), found);
    found.push_back(corrected);
  }
  return found;
}

using Run = Segments (*)(const Segments &);

/// The instance for run-time widths: `Code` counts Voted within Bits.
template <unsigned Words, unsigned Bits, unsigned... Voted>
Run of_voted(unsigned voted, std::integer_sequence<unsigned, Voted...>) {
  Run found = nullptr;
  ((Voted == voted ? (void)(found = run<Words, Bits, Voted>) : (void)0), ...);
  return found;
}

template <unsigned Words, unsigned... LessTwo>
Run of_bits(unsigned bits, unsigned voted, std::integer_sequence<unsigned, LessTwo...>) {
  Run found = nullptr;
  ((LessTwo + 2 == bits
        ? (void)(found = of_voted<Words, LessTwo + 2>(voted, std::make_integer_sequence<unsigned, LessTwo + 3>()))
        : (void)0),
   ...);
  return found;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 6) {
    std::fprintf(stderr, "voter_tb must be given WORDS BITS VOTED IN OUT\n");
    return 2;
  }
  const unsigned words = std::atoi(argv[1]), bits = std::atoi(argv[2]), voted = std::atoi(argv[3]);
  const auto widths = std::make_integer_sequence<unsigned, MOST_BITS - 1>();
  const Run chosen = words == 1   ? of_bits<1>(bits, voted, widths)
                     : words == 3 ? of_bits<3>(bits, voted, widths)
                                  : nullptr;
  if (!chosen) {
    std::fprintf(stderr, "voter_tb must be given 1 or 3 words of 2 to %d bits, got %s of %s, %s voted\n", MOST_BITS,
                 argv[1], argv[2], argv[3]);
    return 2;
  }
  bitward::write_file(argv[5], chosen(bitward::read_file(argv[4])));
  return 0;
}
