// SPDX-License-Identifier: Apache-2.0

/// A queue of Depth beats; its output is registered, and a beat can enter and leave in every cycle.
///
/// Simulated with BITWARD_GAUGE defined it is as deep as `bitward_gauge` (hls/src/harness.cpp) answers at reset, and
/// tells there what went through it since the reset before: one compiled model then serves to try all depths.
module bitward_fifo #(
  parameter  int unsigned Bits     = 8,        /// payload of a beat; the rest of TDATA is padding
  parameter  int unsigned Depth    = 2,        /// beats held, the output register's included; at least 2 + InRam
  parameter  bit          InRam    = 0,        /// beats lie in a RAM of RamStyle, else in a shift register
  parameter               RamStyle = "block",  /// "distributed", "block" or "ultra"
  localparam int unsigned Bytes    = (Bits + 7) / 8
) (
  input  logic               ap_clk,
  input  logic               ap_rst_n,

  input  logic               in0_V_TVALID,
  output logic               in0_V_TREADY,
  input  logic [8*Bytes-1:0] in0_V_TDATA,

  output logic               out0_V_TVALID,
  input  logic               out0_V_TREADY,
  output logic [8*Bytes-1:0] out0_V_TDATA
);

  if (Bits == 0 || Depth < 2 + int'(InRam)) begin : gen_bad_depth
    $error("bitward_fifo: Bits must be at least 1 and Depth at least %0d, got %0d and %0d.", 2 + InRam, Bits, Depth);
  end
  logic            push, take, valid_q;
  logic [Bits-1:0] data_q;

  assign push          = in0_V_TVALID && in0_V_TREADY;
  assign take          = !valid_q || out0_V_TREADY;  // the output register may be loaded
  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*Bytes)'(data_q);

`ifdef BITWARD_GAUGE
  import "DPI-C" function int unsigned bitward_gauge(
    input string where, input int unsigned peak, input int unsigned held, input longint unsigned passed,
    input longint unsigned blocked, input longint unsigned empty
  );

  logic [Bits-1:0] queue[$];
  int unsigned     held_q, peak_q, limit_q;
  longint unsigned passed_q, blocked_q, empty_q;
  bit              told_q;  // since reset began; 0 at first, as bits are

  assign in0_V_TREADY = held_q < limit_q;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      if (!told_q) limit_q <= bitward_gauge($sformatf("%m"), peak_q, held_q, passed_q, blocked_q, empty_q);
      told_q    <= 1'b1;
      valid_q   <= 1'b0;
      held_q    <= 0;
      peak_q    <= 0;
      passed_q  <= 0;
      blocked_q <= 0;
      empty_q   <= 0;
      queue.delete();
    end else begin
      told_q <= 1'b0;
      if (push) queue.push_back(in0_V_TDATA[Bits-1:0]);
      if (take) begin
        valid_q <= queue.size() != 0;
        if (queue.size() != 0) data_q <= queue.pop_front();
      end
      held_q    <= held_q + 32'(push) - 32'(valid_q && out0_V_TREADY);
      peak_q    <= held_q > peak_q ? held_q : peak_q;
      passed_q  <= passed_q + 64'(push);
      blocked_q <= blocked_q + 64'(in0_V_TVALID && !in0_V_TREADY);
      empty_q   <= empty_q + 64'(!valid_q);
    end
  end
`else
  localparam int unsigned Slots    = Depth - 1;  // behind the output register
  localparam int unsigned CntBits  = $clog2(Slots + 1);
  localparam int unsigned AddrBits = Slots > 1 ? $clog2(Slots) : 1;

  logic [CntBits-1:0] held_q;  // beats in the slots
  logic               empty, store, fetch;

  assign in0_V_TREADY = held_q != CntBits'(Slots);
  assign empty        = held_q == '0;
  assign fetch        = take && !empty;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) held_q <= '0;
    else if (store != fetch) held_q <= store ? held_q + 1'b1 : held_q - 1'b1;
  end

  if (!InRam) begin : gen_shift
    // A beat that finds nobody before it goes to the output register at once. The oldest slot is the last one held.
    logic [Bits-1:0] slot_q[Slots];

    assign store = push && !(empty && take);
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) valid_q <= 1'b0;
      else if (take) valid_q <= push || !empty;
    end
    always_ff @(posedge ap_clk) begin
      if (store) begin
        slot_q[0] <= in0_V_TDATA[Bits-1:0];
        for (int i = 1; i < Slots; i++) slot_q[i] <= slot_q[i-1];
      end
      if (take) data_q <= empty ? in0_V_TDATA[Bits-1:0] : slot_q[AddrBits'(held_q-1'b1)];
    end
  end else begin : gen_ram
    // Every beat goes through the RAM, whose read register is the output register.
    (* ram_style = RamStyle *) logic [Bits-1:0] ram[Slots];
    logic [AddrBits-1:0] write_q, read_q;

    function automatic logic [AddrBits-1:0] after(input logic [AddrBits-1:0] slot);
      return slot == AddrBits'(Slots - 1) ? '0 : slot + 1'b1;
    endfunction

    assign store = push;
    always_ff @(posedge ap_clk) begin
      if (!ap_rst_n) begin
        valid_q <= 1'b0;
        write_q <= '0;
        read_q  <= '0;
      end else begin
        if (take) valid_q <= !empty;
        if (store) write_q <= after(write_q);
        if (fetch) read_q <= after(read_q);
      end
    end
    always_ff @(posedge ap_clk) begin
      if (store) ram[write_q] <= in0_V_TDATA[Bits-1:0];
      if (fetch) data_q <= ram[read_q];
    end
  end
`endif

endmodule
