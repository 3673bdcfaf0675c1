// SPDX-License-Identifier: Apache-2.0

/// One AXI-Lite port to Num windows: window k answers addresses with (address & ~Mask[k]) == Base[k].
/// One read and one write at a time; an address in no window is answered with DECERR and zero data.
module bitward_axilite_split #(
  parameter int unsigned             Num      = 1,   /// windows
  parameter int unsigned             AddrBits = 16,  /// width of the byte address
  parameter bit [Num-1:0][31:0]      Base     = '0,  /// first byte of each window, aligned to its size
  parameter bit [Num-1:0][31:0]      Mask     = '0   /// size - 1 of each window
) (
  input  logic                ap_clk,
  input  logic                ap_rst_n,

  input  logic                s_axilite_AWVALID,
  output logic                s_axilite_AWREADY,
  input  logic [AddrBits-1:0] s_axilite_AWADDR,
  input  logic                s_axilite_WVALID,
  output logic                s_axilite_WREADY,
  input  logic [31:0]         s_axilite_WDATA,
  input  logic [3:0]          s_axilite_WSTRB,
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

  output logic [Num-1:0]       m_awvalid,
  input  logic [Num-1:0]       m_awready,
  output logic [AddrBits-1:0]  m_awaddr,   /// shared by all windows, offset within the window
  output logic [Num-1:0]       m_wvalid,
  input  logic [Num-1:0]       m_wready,
  output logic [31:0]          m_wdata,
  input  logic [Num-1:0]       m_bvalid,
  output logic [Num-1:0]       m_bready,
  input  logic [Num-1:0][1:0]  m_bresp,
  output logic [Num-1:0]       m_arvalid,
  input  logic [Num-1:0]       m_arready,
  output logic [AddrBits-1:0]  m_araddr,
  input  logic [Num-1:0]       m_rvalid,
  output logic [Num-1:0]       m_rready,
  input  logic [Num-1:0][31:0] m_rdata,
  input  logic [Num-1:0][1:0]  m_rresp
);

  for (genvar k = 0; k < Num; k++) begin : gen_window
    if ((Mask[k] & (Mask[k] + 1)) != 0 || (Base[k] & Mask[k]) != 0) begin : gen_bad_window
      $error("bitward_axilite_split: a window must have a size of a power of two and a base aligned to it, got %0h+%0h.",
             Base[k], Mask[k]);
    end
    for (genvar j = 0; j < k; j++) begin : gen_pair
      if ((Base[k] & ~(Mask[j] | Mask[k])) == (Base[j] & ~(Mask[j] | Mask[k]))) begin : gen_overlap
        $error("bitward_axilite_split: windows must not overlap, got %0h+%0h and %0h+%0h.",
               Base[j], Mask[j], Base[k], Mask[k]);
      end
    end
  end
  if (Num == 0 || AddrBits == 0 || AddrBits > 32) begin : gen_bad_parameters
    $error("bitward_axilite_split: Num must be at least 1 and AddrBits 1 to 32, got %0d and %0d.", Num, AddrBits);
  end

  localparam bit [1:0] Decerr = 2'b11;
  localparam bit [1:0] Slverr = 2'b10;

  function automatic logic [Num-1:0] select(input logic [AddrBits-1:0] address);
    for (int unsigned k = 0; k < Num; k++) select[k] = (32'(address) & ~Mask[k]) == Base[k];
  endfunction

  function automatic logic [AddrBits-1:0] offset(input logic [AddrBits-1:0] address);
    offset = '0;
    for (int unsigned k = 0; k < Num; k++)
      if ((32'(address) & ~Mask[k]) == Base[k]) offset = AddrBits'(32'(address) & Mask[k]);
  endfunction

  // ---- write: capture address and data, hand both on, wait for the answer -------------------------
  typedef enum logic [1:0] {WIdle, WSend, WWait, WDone} write_e;
  write_e              w_q;
  logic                aw_have_q, w_have_q, aw_sent_q, w_sent_q;
  logic [AddrBits-1:0] awaddr_q;
  logic [31:0]         wdata_q;
  logic [3:0]          wstrb_q;
  logic [1:0]          bresp_q;
  logic [Num-1:0]      w_sel;

  assign w_sel             = select(awaddr_q);
  assign s_axilite_AWREADY = w_q == WIdle && !aw_have_q;
  assign s_axilite_WREADY  = w_q == WIdle && !w_have_q;
  assign s_axilite_BVALID  = w_q == WDone;
  assign s_axilite_BRESP   = bresp_q;
  assign m_awaddr          = offset(awaddr_q);
  assign m_wdata           = wdata_q;
  assign m_awvalid         = w_q == WSend && !aw_sent_q ? w_sel : '0;
  assign m_wvalid          = w_q == WSend && !w_sent_q ? w_sel : '0;
  assign m_bready          = w_q == WWait ? w_sel : '0;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      w_q       <= WIdle;
      aw_have_q <= 1'b0;
      w_have_q  <= 1'b0;
      aw_sent_q <= 1'b0;
      w_sent_q  <= 1'b0;
    end else begin
      unique case (w_q)
        WIdle: begin
          if (s_axilite_AWVALID && s_axilite_AWREADY) aw_have_q <= 1'b1;
          if (s_axilite_WVALID && s_axilite_WREADY) w_have_q <= 1'b1;
          aw_sent_q <= 1'b0;
          w_sent_q  <= 1'b0;
          if (aw_have_q && w_have_q) begin
            // The memories behind have no byte lanes: a partial write is refused, never widened.
            if (w_sel == '0 || wstrb_q != '1) begin
              bresp_q <= w_sel == '0 ? Decerr : Slverr;
              w_q     <= WDone;
            end else begin
              w_q <= WSend;
            end
          end
        end
        WSend: begin
          if ((m_awvalid & m_awready) != '0) aw_sent_q <= 1'b1;
          if ((m_wvalid & m_wready) != '0) w_sent_q <= 1'b1;
          if (aw_sent_q && w_sent_q) w_q <= WWait;
        end
        WWait: begin
          for (int unsigned k = 0; k < Num; k++)
            if (m_bvalid[k] && m_bready[k]) begin
              bresp_q <= m_bresp[k];
              w_q     <= WDone;
            end
        end
        WDone: begin
          if (s_axilite_BREADY) begin
            w_q       <= WIdle;
            aw_have_q <= 1'b0;
            w_have_q  <= 1'b0;
          end
        end
        default: w_q <= WIdle;
      endcase
    end
  end
  always_ff @(posedge ap_clk) begin
    if (s_axilite_AWVALID && s_axilite_AWREADY) awaddr_q <= s_axilite_AWADDR;
    if (s_axilite_WVALID && s_axilite_WREADY) begin
      wdata_q <= s_axilite_WDATA;
      wstrb_q <= s_axilite_WSTRB;
    end
  end

  // ---- read ----------------------------------------------------------------------------------------
  typedef enum logic [1:0] {RIdle, RSend, RWait, RDone} read_e;
  read_e               r_q;
  logic [AddrBits-1:0] araddr_q;
  logic [31:0]         rdata_q;
  logic [1:0]          rresp_q;
  logic [Num-1:0]      r_sel;

  assign r_sel             = select(araddr_q);
  assign s_axilite_ARREADY = r_q == RIdle;
  assign s_axilite_RVALID  = r_q == RDone;
  assign s_axilite_RDATA   = rdata_q;
  assign s_axilite_RRESP   = rresp_q;
  assign m_araddr          = offset(araddr_q);
  assign m_arvalid         = r_q == RSend ? r_sel : '0;
  assign m_rready          = r_q == RWait ? r_sel : '0;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      r_q <= RIdle;
    end else begin
      unique case (r_q)
        RIdle: if (s_axilite_ARVALID) begin
          araddr_q <= s_axilite_ARADDR;
          r_q      <= RSend;
        end
        RSend: begin
          if (r_sel == '0) begin
            rdata_q <= '0;
            rresp_q <= Decerr;
            r_q     <= RDone;
          end else if ((m_arvalid & m_arready) != '0) begin
            r_q <= RWait;
          end
        end
        RWait: begin
          for (int unsigned k = 0; k < Num; k++)
            if (m_rvalid[k] && m_rready[k]) begin
              rdata_q <= m_rdata[k];
              rresp_q <= m_rresp[k];
              r_q     <= RDone;
            end
        end
        RDone: if (s_axilite_RREADY) r_q <= RIdle;
        default: r_q <= RIdle;
      endcase
    end
  end

endmodule
