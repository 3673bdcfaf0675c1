// SPDX-License-Identifier: Apache-2.0

/// Images with StrideH - 1 rows and StrideW - 1 columns of zeros between their pixels, none around them: what makes a
/// convolution of a transposed one.
module bitward_pixelpad #(
  parameter  int unsigned Height   = 2,   /// of an image that comes in
  parameter  int unsigned Width    = 2,
  parameter  int unsigned StrideH  = 2,   /// distance of two pixels that leave
  parameter  int unsigned StrideW  = 2,
  parameter  int unsigned Channels = 1,   /// of a pixel
  parameter  int unsigned Simd     = 1,   /// channels a beat
  parameter  int unsigned Bits     = 4,   /// width of a channel
  localparam int unsigned Bytes    = (Simd * Bits + 7) / 8
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

  if (Height == 0 || Width == 0 || StrideH == 0 || StrideW == 0 || Bits == 0) begin : gen_bad_size
    $error("bitward_pixelpad: sizes, strides and Bits must be at least 1, got %0dx%0d by %0dx%0d, Bits=%0d.",
           Height, Width, StrideH, StrideW, Bits);
  end
  if (Simd == 0 || Channels == 0 || Channels % Simd != 0) begin : gen_bad_folding
    $error("bitward_pixelpad: Simd must divide Channels, got Simd=%0d Channels=%0d.", Simd, Channels);
  end

  localparam int unsigned Folds = Channels / Simd;
  localparam int unsigned FBits = Folds > 1 ? $clog2(Folds) : 1;
  localparam int unsigned XBits = Width > 1 ? $clog2(Width) : 1;
  localparam int unsigned YBits = Height > 1 ? $clog2(Height) : 1;
  localparam int unsigned UBits = StrideW > 1 ? $clog2(StrideW) : 1;
  localparam int unsigned VBits = StrideH > 1 ? $clog2(StrideH) : 1;

  // The output pixel at row y*StrideH + v, column x*StrideW + u; it is one of the image's where v = u = 0.
  logic [FBits-1:0] fold_q;
  logic [XBits-1:0] x_q;
  logic [YBits-1:0] y_q;
  logic [UBits-1:0] u_q;
  logic [VBits-1:0] v_q;
  logic             is_pixel, next_pixel, last_x, last_y, next_row, next_v, step, take, valid_q;

  logic [Simd*Bits-1:0] beat_q;

  assign is_pixel   = u_q == '0 && v_q == '0;
  assign next_pixel = take && fold_q == FBits'(Folds - 1);
  assign last_x     = x_q == XBits'(Width - 1);
  assign last_y     = y_q == YBits'(Height - 1);
  assign next_row   = next_pixel && last_x;  // no zeros behind the last pixel of a row
  assign next_v     = v_q == VBits'(StrideH - 1) || last_y;

  assign step         = !valid_q || out0_V_TREADY;
  assign in0_V_TREADY = step && is_pixel;
  assign take         = step && (in0_V_TVALID || !is_pixel);

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      {fold_q, x_q, y_q, u_q, v_q} <= '0;
      valid_q                      <= 1'b0;
    end else begin
      if (take) fold_q <= next_pixel ? '0 : fold_q + 1'b1;
      if (next_pixel) begin
        if (last_x) begin
          x_q <= '0;
          u_q <= '0;
        end else if (u_q == UBits'(StrideW - 1)) begin
          x_q <= x_q + 1'b1;
          u_q <= '0;
        end else begin
          u_q <= u_q + 1'b1;
        end
      end
      if (next_row) begin
        v_q <= next_v ? '0 : v_q + 1'b1;
        if (next_v) y_q <= last_y ? '0 : y_q + 1'b1;
      end
      if (step) valid_q <= take;
    end
  end
  always_ff @(posedge ap_clk) if (step) beat_q <= is_pixel ? in0_V_TDATA[Simd*Bits-1:0] : '0;

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*Bytes)'(beat_q);

endmodule
