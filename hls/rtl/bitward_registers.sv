// SPDX-License-Identifier: Apache-2.0

/// Identification and control registers of an accelerator. Byte offsets:
///   0x00 RO  magic "BWTD"      0x04 RO  design id (ties a manifest to its overlay)
///   0x08 RO  register map version
///   0x0C RW  images per transfer: TLAST closes the stream after this many (reset: 1);
///            a write, of the same number too, starts the count afresh
///   0x10 RO  images sent since reset
///   0x14 RO  first 8 hexadecimal digits of the source's git commit; 0: not known, as in simulation
///   0x18 RO  build id: of everything that Vivado was given; 0: no bitstream, as in simulation
///   0x1C RO  bit 0: the source differed from the commit
module bitward_registers #(
  parameter bit [31:0] DesignId   = '0,   /// design id of the manifest
  parameter bit [31:0] GitHash    = '0,   /// what 0x14 reads
  parameter bit [31:0] BuildId    = '0,   /// what 0x18 reads
  parameter bit        GitIsDirty = '0    /// what 0x1C reads
) (
  input  logic        ap_clk,
  input  logic        ap_rst_n,

  input  logic        s_axilite_AWVALID,
  output logic        s_axilite_AWREADY,
  input  logic [5:0]  s_axilite_AWADDR,
  input  logic        s_axilite_WVALID,
  output logic        s_axilite_WREADY,
  input  logic [31:0] s_axilite_WDATA,
  output logic        s_axilite_BVALID,
  input  logic        s_axilite_BREADY,
  output logic [1:0]  s_axilite_BRESP,
  input  logic        s_axilite_ARVALID,
  output logic        s_axilite_ARREADY,
  input  logic [5:0]  s_axilite_ARADDR,
  output logic        s_axilite_RVALID,
  input  logic        s_axilite_RREADY,
  output logic [31:0] s_axilite_RDATA,
  output logic [1:0]  s_axilite_RRESP,

  input  logic [31:0] images_sent_i,          /// images sent since reset
  output logic [31:0] images_per_transfer_o,
  output logic        rearm_o   /// one cycle after each write of images_per_transfer
);

  localparam bit [31:0] Magic   = 32'h4257_5444;
  localparam bit [31:0] Version = 32'd1;
  localparam bit [3:0]  AtImages = 4'h3;

  logic [31:0] images_q, rdata_q;
  logic        bvalid_q, rvalid_q, rearm_q, write;
  logic [1:0]  bresp_q;

  // Address and data are taken together: ready rises only when both are there.
  assign write             = s_axilite_AWVALID && s_axilite_WVALID && !bvalid_q;
  assign s_axilite_AWREADY = write;
  assign s_axilite_WREADY  = write;
  assign s_axilite_BVALID  = bvalid_q;
  assign s_axilite_BRESP   = bresp_q;
  assign s_axilite_ARREADY = !rvalid_q;
  assign s_axilite_RVALID  = rvalid_q;
  assign s_axilite_RDATA   = rdata_q;
  assign s_axilite_RRESP   = 2'b00;
  assign images_per_transfer_o = images_q;
  assign rearm_o           = rearm_q;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      images_q <= 32'd1;
      bvalid_q <= 1'b0;
      rvalid_q <= 1'b0;
      rearm_q  <= 1'b0;
    end else begin
      rearm_q <= 1'b0;
      if (write) begin
        bvalid_q <= 1'b1;
        // Read-only registers answer SLVERR; zero images would never end a transfer.
        if (s_axilite_AWADDR[5:2] == AtImages && s_axilite_WDATA != '0) begin
          images_q <= s_axilite_WDATA;
          rearm_q  <= 1'b1;
          bresp_q  <= 2'b00;
        end else begin
          bresp_q  <= 2'b10;
        end
      end else if (s_axilite_BREADY) begin
        bvalid_q <= 1'b0;
      end

      if (s_axilite_ARVALID && s_axilite_ARREADY) begin
        rvalid_q <= 1'b1;
        unique case (s_axilite_ARADDR[5:2])
          4'h0:     rdata_q <= Magic;
          4'h1:     rdata_q <= DesignId;
          4'h2:     rdata_q <= Version;
          AtImages: rdata_q <= images_q;
          4'h4:     rdata_q <= images_sent_i;
          4'h5:     rdata_q <= GitHash;
          4'h6:     rdata_q <= BuildId;
          4'h7:     rdata_q <= 32'(GitIsDirty);
          default:  rdata_q <= '0;
        endcase
      end else if (s_axilite_RREADY) begin
        rvalid_q <= 1'b0;
      end
    end
  end

  wire unused_ok = &{1'b0, s_axilite_AWADDR[1:0], s_axilite_ARADDR[1:0]};

endmodule
