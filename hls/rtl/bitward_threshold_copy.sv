// SPDX-License-Identifier: Apache-2.0

/// One copy of the thresholds that one lane of one stage of bitward_thresholding searches, and its read register.
/// A module of its own so that no synthesiser makes one of equal copies: attributes of a memory or register do not
/// hold that off everywhere, a boundary does.
(* DONT_TOUCH = "yes", keep_hierarchy = "yes" *) module bitward_threshold_copy #(
  parameter  int unsigned Stage    = 0,       /// stage of the search
  parameter  int unsigned Levels   = 4,       /// stages of the search
  parameter  int unsigned Lane     = 0,       /// lane of the beat
  parameter  int unsigned LaneBits = 0,       /// address bits of a lane in the stored rows
  parameter  int unsigned Folds    = 1,       /// lists a lane holds
  parameter  int unsigned Bits     = 16,      /// width of a threshold
  parameter  int unsigned Stored   = 16,      /// width of a stored row
  parameter  int unsigned Low      = 0,       /// where this copy begins in a stored row
  parameter               InitFile = "",      /// stored rows {fold, lane, index}, one a line, hexadecimal
  parameter               Style    = "block", /// ram_style of the array
  localparam int unsigned Depth    = Folds << Stage,
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                ap_clk,

  input  logic                write_i,
  input  logic [AddrBits-1:0] write_at_i,
  input  logic [Bits-1:0]     threshold_i,

  input  logic [AddrBits-1:0] at_i,
  output logic [Bits-1:0]     threshold_o     /// one cycle later
);

  if (Low + Bits > Stored || Stage >= Levels || Lane >> LaneBits != 0) begin : gen_bad_parameters
    $error("bitward_threshold_copy: a copy must lie in a row, got bits %0d..%0d of %0d, stage %0d of %0d, lane %0d.",
           Low, Low + Bits - 1, Stored, Stage, Levels, Lane);
  end

  (* ram_style = Style *) logic [Bits-1:0] threshold[Depth];

  if (InitFile != "") begin : gen_init
    initial begin
      automatic logic [Stored-1:0] image[Folds << (LaneBits + Levels)];
      $readmemh(InitFile, image);
      for (int unsigned a = 0; a < Depth; a++) begin
        // {fold, lane, index}, where the address is {fold, top bits of the index}
        threshold[a] = image[((((a >> Stage) << LaneBits) + Lane) << Levels) +
                             ((a % (1 << Stage)) << (Levels - Stage)) + (1 << (Levels - 1 - Stage)) - 1][Low+:Bits];
      end
    end
  end

  always_ff @(posedge ap_clk) begin
    if (write_i) threshold[write_at_i] <= threshold_i;
    threshold_o <= threshold[at_i];
  end

endmodule
