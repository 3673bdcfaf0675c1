// SPDX-License-Identifier: Apache-2.0

/// One copy of the thresholds that one lane of one stage of bitward_thresholding searches, and its read register.
/// A module of its own so that no synthesiser makes one of equal copies: attributes of a memory or register do not
/// hold that off everywhere, a boundary does.
(* DONT_TOUCH = "yes", keep_hierarchy = "yes" *) module bitward_threshold_copy #(
  parameter  int unsigned Stage    = 0,       /// stage of the search
  parameter  int unsigned Lane     = 0,       /// lane of the beat
  parameter  int unsigned Depth    = 1,       /// thresholds held
  parameter  int unsigned Bits     = 16,      /// width of a threshold
  parameter               InitFile = "",      /// InitFile_STAGE_LANE.dat: plain thresholds, one a line, hexadecimal
  parameter  bit          InBlock  = 0,       /// the array is block RAM, else distributed
  localparam int unsigned AddrBits = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic                ap_clk,

  input  logic                write_i,
  input  logic [AddrBits-1:0] write_at_i,
  input  logic [Bits-1:0]     threshold_i,

  input  logic [AddrBits-1:0] at_i,
  output logic [Bits-1:0]     threshold_o     /// one cycle later
);

  if (Depth == 0 || Bits == 0) begin : gen_bad_parameters
    $error("bitward_threshold_copy: Depth and Bits must be at least 1, got %0d and %0d.", Depth, Bits);
  end

  // Each style is written out: an attribute that is chosen by an expression is not read alike everywhere.
  if (InBlock) begin : gen_block
    (* ram_style = "block" *) logic [Bits-1:0] threshold[Depth];

    if (InitFile != "") begin : gen_init
      initial $readmemh($sformatf("%s_%0d_%0d.dat", InitFile, Stage, Lane), threshold);
    end
    always_ff @(posedge ap_clk) begin
      if (write_i) threshold[write_at_i] <= threshold_i;
      threshold_o <= threshold[at_i];
    end
  end else begin : gen_distributed
    (* ram_style = "distributed" *) logic [Bits-1:0] threshold[Depth];

    if (InitFile != "") begin : gen_init
      initial $readmemh($sformatf("%s_%0d_%0d.dat", InitFile, Stage, Lane), threshold);
    end
    always_ff @(posedge ap_clk) begin
      if (write_i) threshold[write_at_i] <= threshold_i;
      threshold_o <= threshold[at_i];
    end
  end

endmodule
