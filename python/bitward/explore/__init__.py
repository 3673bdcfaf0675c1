# SPDX-License-Identifier: Apache-2.0
"""Design space exploration: how few bits, and how much protection, keep a network's accuracy under upsets.

    design.py     how a float network is stored: bits, scheme, voted bits, layer by layer if need be
    scale.py      how weights are scaled before they are stored
    subject.py    a trained network and the images that it is judged on
    evaluate.py   accuracy, and what a bit error rate takes of it, by resumable campaigns on the torch engine
    search.py     by halves (FORTUNE's Algorithm 1), as a whole, the Pareto front, layer by layer
    ledger.py     what was found, kept point by point: a search goes on where it was
    text.py        points of accuracy, in words
    family.py     quantized networks whose points are hardware as they are

All of it is software-only: no hardware takes part, and a point says whether hardware can be made of it.
"""
