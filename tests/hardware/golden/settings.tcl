# Written by bitward bitstream: what design.tcl and build.tcl must know of the design.
set settings {
  name             cnn
  part             xck26-sfvc784-2LV-c
  clk_mhz          250
  accelerator      {0xA0000000 0x00100000}
  dma              {0xAFFF0000 0x00010000}
  gpio             {0xAFFE0000 0x00010000}
  in_stream_bits   8
  out_stream_bits  32
  in_memory_bits   32
  out_memory_bits  32
  length_bits      26
}
