// SPDX-License-Identifier: Apache-2.0
// Written by bitward bitstream; do not edit.

module bitward_accelerator (
  (* X_INTERFACE_INFO = "xilinx.com:signal:clock:1.0 ap_clk CLK" *)
  (* X_INTERFACE_PARAMETER = "ASSOCIATED_BUSIF s_axis:m_axis:s_axilite, ASSOCIATED_RESET ap_rst_n" *)
  input  wire ap_clk,
  (* X_INTERFACE_INFO = "xilinx.com:signal:reset:1.0 ap_rst_n RST" *)
  (* X_INTERFACE_PARAMETER = "POLARITY ACTIVE_LOW" *)
  input  wire ap_rst_n,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 s_axis TVALID" *)
  input  wire s_axis_tvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 s_axis TREADY" *)
  output wire s_axis_tready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 s_axis TDATA" *)
  input  wire [7:0] s_axis_tdata,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 s_axis TKEEP" *)
  input  wire [0:0] s_axis_tkeep,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 s_axis TLAST" *)
  input  wire s_axis_tlast,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 m_axis TVALID" *)
  output wire m_axis_tvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 m_axis TREADY" *)
  input  wire m_axis_tready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 m_axis TDATA" *)
  output wire [31:0] m_axis_tdata,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 m_axis TKEEP" *)
  output wire [3:0] m_axis_tkeep,
  (* X_INTERFACE_INFO = "xilinx.com:interface:axis:1.0 m_axis TLAST" *)
  output wire m_axis_tlast,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite AWVALID" *)
  input  wire s_axilite_awvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite AWREADY" *)
  output wire s_axilite_awready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite AWADDR" *)
  input  wire [19:0] s_axilite_awaddr,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite WVALID" *)
  input  wire s_axilite_wvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite WREADY" *)
  output wire s_axilite_wready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite WDATA" *)
  input  wire [31:0] s_axilite_wdata,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite WSTRB" *)
  input  wire [3:0] s_axilite_wstrb,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite BVALID" *)
  output wire s_axilite_bvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite BREADY" *)
  input  wire s_axilite_bready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite BRESP" *)
  output wire [1:0] s_axilite_bresp,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite ARVALID" *)
  input  wire s_axilite_arvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite ARREADY" *)
  output wire s_axilite_arready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite ARADDR" *)
  input  wire [19:0] s_axilite_araddr,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite RVALID" *)
  output wire s_axilite_rvalid,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite RREADY" *)
  input  wire s_axilite_rready,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite RDATA" *)
  output wire [31:0] s_axilite_rdata,
  (* X_INTERFACE_INFO = "xilinx.com:interface:aximm:1.0 s_axilite RRESP" *)
  output wire [1:0] s_axilite_rresp
);

  assign m_axis_tkeep = {4{1'b1}};

  bitward_top #(
    .GitHash(32'h01234567), .BuildId(32'hBUILD_ID), .GitIsDirty(1'b1)
  ) i_top (
    .ap_clk(ap_clk),
    .ap_rst_n(ap_rst_n),
    .s_axis_tvalid(s_axis_tvalid),
    .s_axis_tready(s_axis_tready),
    .s_axis_tdata(s_axis_tdata),
    .m_axis_tvalid(m_axis_tvalid),
    .m_axis_tready(m_axis_tready),
    .m_axis_tdata(m_axis_tdata),
    .m_axis_tlast(m_axis_tlast),
    .s_axilite_AWVALID(s_axilite_awvalid),
    .s_axilite_AWREADY(s_axilite_awready),
    .s_axilite_AWADDR(s_axilite_awaddr),
    .s_axilite_WVALID(s_axilite_wvalid),
    .s_axilite_WREADY(s_axilite_wready),
    .s_axilite_WDATA(s_axilite_wdata),
    .s_axilite_WSTRB(s_axilite_wstrb),
    .s_axilite_BVALID(s_axilite_bvalid),
    .s_axilite_BREADY(s_axilite_bready),
    .s_axilite_BRESP(s_axilite_bresp),
    .s_axilite_ARVALID(s_axilite_arvalid),
    .s_axilite_ARREADY(s_axilite_arready),
    .s_axilite_ARADDR(s_axilite_araddr),
    .s_axilite_RVALID(s_axilite_rvalid),
    .s_axilite_RREADY(s_axilite_rready),
    .s_axilite_RDATA(s_axilite_rdata),
    .s_axilite_RRESP(s_axilite_rresp)
  );

  wire unused_ok = &{1'b0, s_axis_tkeep, s_axis_tlast};

endmodule
