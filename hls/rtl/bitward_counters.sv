// SPDX-License-Identifier: Apache-2.0

/// Counts, per memory, reads of rows whose redundancy disagreed: reads, not upsets, since one upset row is read again
/// for every vector of every image. Each counter stops at its highest number and is cleared by its own read (an event
/// in that cycle is the first of the new count). Byte offsets:
///   8*k     RO, cleared on read  rows of memory k that were read corrected
///   8*k+4   RO, cleared on read  rows of memory k that were read though known to be wrong
/// A write answers SLVERR and changes nothing; so does a read behind the last counter, which gives 0.
module bitward_counters #(
  parameter  int unsigned Num       = 1,   /// memories
  parameter  int unsigned CountBits = 32,  /// width of a counter, 1..32 (less than 32 only to prove and to test)
  localparam int unsigned AddrBits  = $clog2(8 * Num)
) (
  input  logic                ap_clk,
  input  logic                ap_rst_n,

  input  logic                s_axilite_AWVALID,
  output logic                s_axilite_AWREADY,
  input  logic [AddrBits-1:0] s_axilite_AWADDR,
  input  logic                s_axilite_WVALID,
  output logic                s_axilite_WREADY,
  input  logic [31:0]         s_axilite_WDATA,
  output logic                s_axilite_BVALID,
  input  logic                s_axilite_BREADY,
  output logic [1:0]          s_axilite_BRESP,
  input  logic                s_axilite_ARVALID,
  output logic                s_axilite_ARREADY,
  input  logic [AddrBits-1:0] s_axilite_ARADDR,
  output logic                s_axilite_RVALID,
  input  logic                s_axilite_RREADY,
  output logic [31:0]         s_axilite_RDATA,
  output logic [1:0]          s_axilite_RRESP,

  input  logic [Num-1:0]      corrected_i,  /// bit k: memory k, one cycle for each row read corrected
  input  logic [Num-1:0]      detected_i    /// bit k: memory k, one cycle for each row read though known to be wrong
);

  if (Num == 0 || CountBits == 0 || CountBits > 32) begin : gen_bad_parameters
    $error("bitward_counters: Num must be at least 1 and CountBits 1..32, got Num=%0d CountBits=%0d.", Num, CountBits);
  end

  localparam int unsigned Last = 2 * Num - 1;

  logic [Last:0]                event_i;  // as the counters are addressed
  logic [Last:0][CountBits-1:0] count_q;
  logic [AddrBits-3:0]          at;
  logic                         read, known, bvalid_q, rvalid_q;
  logic [31:0]                  rdata_q;
  logic [1:0]                   rresp_q;

  // Address and data are taken together: ready rises only when both are there.
  wire write = s_axilite_AWVALID && s_axilite_WVALID && !bvalid_q;
  assign s_axilite_AWREADY = write;
  assign s_axilite_WREADY  = write;
  assign s_axilite_BVALID  = bvalid_q;
  assign s_axilite_BRESP   = 2'b10;
  assign s_axilite_ARREADY = !rvalid_q;
  assign s_axilite_RVALID  = rvalid_q;
  assign s_axilite_RDATA   = rdata_q;
  assign s_axilite_RRESP   = rresp_q;

  assign read  = s_axilite_ARVALID && s_axilite_ARREADY;
  assign at    = s_axilite_ARADDR[AddrBits-1:2];
  assign known = 32'(at) <= Last;

  for (genvar k = 0; k < Num; k++) begin : gen_memory
    assign event_i[2*k]   = corrected_i[k];
    assign event_i[2*k+1] = detected_i[k];
  end

  for (genvar c = 0; c < 2 * Num; c++) begin : gen_counter
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n)                           count_q[c] <= '0;
      else if (read && 32'(at) == c)           count_q[c] <= CountBits'(event_i[c]);
      else if (event_i[c] && count_q[c] != '1) count_q[c] <= count_q[c] + 1'b1;
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      bvalid_q <= 1'b0;
      rvalid_q <= 1'b0;
    end else begin
      bvalid_q <= write || (bvalid_q && !s_axilite_BREADY);
      rvalid_q <= read  || (rvalid_q && !s_axilite_RREADY);
    end
    if (read) begin
      rdata_q <= known ? 32'(count_q[at]) : '0;
      rresp_q <= known ? 2'b00 : 2'b10;
    end
  end

  wire unused_ok = &{1'b0, s_axilite_AWADDR, s_axilite_WDATA, s_axilite_ARADDR[1:0]};

endmodule
