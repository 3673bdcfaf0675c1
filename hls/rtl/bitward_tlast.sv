// SPDX-License-Identifier: Apache-2.0

/// Passes a stream on, closing each transfer of `images_i` images of Beats beats with TLAST.
/// `rearm_i` forgets the images of a transfer that died half-way; it belongs between images, as beats count on.
module bitward_tlast #(
  parameter int unsigned Width = 8,   /// bits of a beat
  parameter int unsigned Beats = 1    /// beats an image
) (
  input  logic             ap_clk,
  input  logic             ap_rst_n,
  input  logic [31:0]      images_i,        /// images per transfer, at least 1
  input  logic             rearm_i,         /// the next image is the first of a transfer
  output logic [31:0]      images_sent_o,   /// images sent since reset

  input  logic             s_axis_tvalid,
  output logic             s_axis_tready,
  input  logic [Width-1:0] s_axis_tdata,

  output logic             m_axis_tvalid,
  input  logic             m_axis_tready,
  output logic [Width-1:0] m_axis_tdata,
  output logic             m_axis_tlast
);

  if (Width == 0 || Beats == 0) begin : gen_bad_parameters
    $error("bitward_tlast: Width and Beats must be at least 1, got %0d and %0d.", Width, Beats);
  end

  logic [31:0] beat_q, image_q, sent_q;
  logic        image_ends, take;

  assign m_axis_tvalid = s_axis_tvalid;
  assign s_axis_tready = m_axis_tready;
  assign m_axis_tdata  = s_axis_tdata;
  assign image_ends    = beat_q == 32'(Beats - 1);
  assign m_axis_tlast  = image_ends && image_q >= images_i - 1;
  assign take          = s_axis_tvalid && m_axis_tready;
  assign images_sent_o = sent_q;

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      beat_q  <= '0;
      image_q <= '0;
      sent_q  <= '0;
    end else begin
      if (take) begin
        beat_q <= image_ends ? '0 : beat_q + 1;
        if (image_ends) begin
          image_q <= m_axis_tlast ? '0 : image_q + 1;
          sent_q  <= sent_q + 1;
        end
      end
      if (rearm_i) image_q <= '0;
    end
  end

endmodule
