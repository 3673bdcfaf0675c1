// SPDX-License-Identifier: Apache-2.0

/// Beats of InBits become beats of OutBits, the lowest bits first, for any two widths: the wider side moves a beat a
/// cycle, or the narrower as often as it can give or take them. Both handshakes are registered.
///
/// What has come and not yet gone stands at the low end of one register, counted in units of the widths' greatest common
/// divisor: a beat that leaves moves the rest down by its own length, one that comes is put behind the rest.
module bitward_dwc #(
  parameter  int unsigned InBits   = 8,  /// payload of a beat that comes in
  parameter  int unsigned OutBits  = 4,  /// payload of a beat that leaves
  localparam int unsigned InBytes  = (InBits + 7) / 8,
  localparam int unsigned OutBytes = (OutBits + 7) / 8
) (
  input  logic                  ap_clk,
  input  logic                  ap_rst_n,

  input  logic                  in0_V_TVALID,
  output logic                  in0_V_TREADY,
  input  logic [8*InBytes-1:0]  in0_V_TDATA,

  output logic                  out0_V_TVALID,
  input  logic                  out0_V_TREADY,
  output logic [8*OutBytes-1:0] out0_V_TDATA
);

  if (InBits == 0 || OutBits == 0) begin : gen_bad_parameters
    $error("bitward_dwc: InBits and OutBits must be at least 1, got %0d and %0d.", InBits, OutBits);
  end

  function automatic int unsigned gcd(input int unsigned a, input int unsigned b);
    return b == 0 ? a : gcd(b, a % b);
  endfunction

  localparam int unsigned Unit    = gcd(InBits, OutBits);
  localparam int unsigned In      = InBits / Unit;
  localparam int unsigned Out     = OutBits / Unit;
  // Whatever part of a beat is left over, there is room for one to come while another waits to go.
  localparam int unsigned Units   = In + Out - 1 + (In < Out ? In : Out);
  localparam int unsigned Highest = Units - In;  // place of the lowest unit of a beat that comes, at most
  localparam int unsigned Sources = In < Highest + 1 ? In : Highest + 1;  // units of a beat that can reach one unit
  localparam int unsigned CntBits = $clog2(Units + 1);

  logic [Units-1:0][Unit-1:0] unit_q, unit_d, moved;
  logic [In-1:0][Unit-1:0]    beat;
  logic [CntBits-1:0]         count_q, count_d, rest;
  logic                       take, give, ready_q, valid_q;

  assign beat    = in0_V_TDATA[InBits-1:0];
  assign take    = in0_V_TVALID && ready_q;
  assign give    = valid_q && out0_V_TREADY;
  assign rest    = give ? count_q - CntBits'(Out) : count_q;
  assign count_d = take ? rest + CntBits'(In) : rest;

  // A beat that does not come is put there too: nothing reads what stands behind the rest.
  assign moved = give ? unit_q >> Out * Unit : unit_q;
  if (Sources <= 3) begin : gen_select
    for (genvar u = 0; u < Units; u++) begin : gen_unit
      localparam int unsigned Lowest = u + 1 > In ? u + 1 - In : 0;  // places from which a beat reaches this unit
      always_comb begin
        unit_d[u] = moved[u];
        for (int unsigned place = Lowest; place <= u && place <= Highest; place++) begin
          if (rest == CntBits'(place)) unit_d[u] = beat[u-place];
        end
      end
    end
  end else begin : gen_shift
    // With many places a shifter takes a third of the selectors' logic, with few four times as much.
    logic [Units-1:0][Unit-1:0] placed;
    assign placed = (Units * Unit)'(beat) << 32'(rest) * Unit;
    for (genvar u = 0; u < Units; u++) begin : gen_unit
      assign unit_d[u] = rest > CntBits'(u) ? moved[u] : placed[u];
    end
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      count_q <= '0;
      ready_q <= 1'b0;
      valid_q <= 1'b0;
    end else begin
      count_q <= count_d;
      ready_q <= count_d <= CntBits'(Highest);
      valid_q <= count_d >= CntBits'(Out);
    end
  end
  always_ff @(posedge ap_clk) unit_q <= unit_d;

  assign in0_V_TREADY  = ready_q;
  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*OutBytes)'(unit_q[Out-1:0]);

endmodule
