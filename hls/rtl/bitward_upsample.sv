// SPDX-License-Identifier: Apache-2.0

/// Images with every pixel ScaleW times in each row and every row ScaleH times: nearest neighbour up-sampling.
///
/// One row lies in memory, used as a ring: a beat of the next row is taken as soon as its place was read for the last
/// time. So with two rows out for one in, a stream that comes at a steady pace is not held up while a row is repeated.
module bitward_upsample #(
  parameter  int unsigned Width    = 2,   /// pixels of a row that comes in
  parameter  int unsigned ScaleH   = 2,   /// times that a row leaves
  parameter  int unsigned ScaleW   = 2,   /// times that a pixel leaves in a row
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

  if (Width == 0 || ScaleH == 0 || ScaleW == 0 || Bits == 0) begin : gen_bad_size
    $error("bitward_upsample: Width, scales and Bits must be at least 1, got Width=%0d, %0dx%0d, Bits=%0d.",
           Width, ScaleH, ScaleW, Bits);
  end
  if (Simd == 0 || Channels == 0 || Channels % Simd != 0) begin : gen_bad_folding
    $error("bitward_upsample: Simd must divide Channels, got Simd=%0d Channels=%0d.", Simd, Channels);
  end

  localparam int unsigned Folds    = Channels / Simd;
  localparam int unsigned RowBeats = Width * Folds;
  localparam int unsigned PtrBits  = RowBeats > 2 ? $clog2(RowBeats) : 1;  // a ring of one place would stall
  localparam int unsigned Places   = 2 ** PtrBits;
  localparam int unsigned FBits    = Folds > 1 ? $clog2(Folds) : 1;
  localparam int unsigned XBits    = Width > 1 ? $clog2(Width) : 1;
  localparam int unsigned UBits    = ScaleW > 1 ? $clog2(ScaleW) : 1;
  localparam int unsigned VBits    = ScaleH > 1 ? $clog2(ScaleH) : 1;

  logic [Simd*Bits-1:0] ring [Places];
  logic [Simd*Bits-1:0] beat_q;

  logic [PtrBits-1:0] write_q, read_q, read_d, next, pixel_q, row_q;  // places of the ring; starts of pixel and row
  logic [PtrBits:0]   space_q, ahead_q;                               // places to write, beats not yet read at all
  logic [FBits-1:0]   fold_q;
  logic [XBits-1:0]   x_q;
  logic [UBits-1:0]   u_q;
  logic [VBits-1:0]   v_q;
  logic               last_fold, last_u, last_x, last_v, is_first, is_last, write, read, step, valid_q;

  assign last_fold = fold_q == FBits'(Folds - 1);
  assign last_u    = u_q == UBits'(ScaleW - 1);
  assign last_x    = x_q == XBits'(Width - 1);
  assign last_v    = v_q == VBits'(ScaleH - 1);
  assign is_first  = u_q == '0 && v_q == '0;  // what is read a second time is there
  assign is_last   = last_u && last_v;

  assign step         = !valid_q || out0_V_TREADY;
  assign read         = step && (ahead_q != '0 || !is_first);
  assign in0_V_TREADY = space_q != '0;
  assign write        = in0_V_TVALID && in0_V_TREADY;

  assign next = read_q + 1'b1;
  always_comb begin
    read_d = next;
    if (last_fold && !last_u) read_d = pixel_q;
    if (last_fold && last_u && last_x && !last_v) read_d = row_q;
  end

  always_ff @(posedge ap_clk) begin
    if (!ap_rst_n) begin
      {write_q, read_q, pixel_q, row_q} <= '0;
      {fold_q, x_q, u_q, v_q}           <= '0;
      space_q                           <= (PtrBits + 1)'(Places);
      ahead_q                           <= '0;
      valid_q                           <= 1'b0;
    end else begin
      if (write) write_q <= write_q + 1'b1;
      space_q <= space_q - (PtrBits + 1)'(write) + (PtrBits + 1)'(read && is_last);
      ahead_q <= ahead_q + (PtrBits + 1)'(write) - (PtrBits + 1)'(read && is_first);
      if (step) valid_q <= read;
      if (read) begin
        read_q <= read_d;
        fold_q <= last_fold ? '0 : fold_q + 1'b1;
        if (last_fold) begin
          pixel_q <= read_d;
          u_q     <= last_u ? '0 : u_q + 1'b1;
          if (last_u) x_q <= last_x ? '0 : x_q + 1'b1;
          if (last_u && last_x) begin
            row_q <= read_d;
            v_q   <= last_v ? '0 : v_q + 1'b1;
          end
        end
      end
    end
  end

  // One write and one read port, the read registered: block or distributed memory, as its size asks for.
  always_ff @(posedge ap_clk) if (write) ring[write_q] <= in0_V_TDATA[Simd*Bits-1:0];
  always_ff @(posedge ap_clk) if (read) beat_q <= ring[read_q];

  assign out0_V_TVALID = valid_q;
  assign out0_V_TDATA  = (8*Bytes)'(beat_q);

endmodule
