# SPDX-License-Identifier: Apache-2.0
# The block design around the accelerator: processing system, AXI DMA in simple mode, SmartConnect, one clock, one reset.
#
#   M_AXI_HPM0_FPD -> control -> accelerator (AXI-Lite), axi_dma, axi_gpio
#   axi_dma MM2S -> accelerator -> axi_dma S2MM;   axi_dma <-> data -> S_AXI_HP0_FPD
#
# Names and addresses are those of the virtual board's overlay: the same client drives both.

proc bitward::make_design {name} {
  create_bd_design $name
  make_ps zynq_ultra_ps_e_0 [setting clk_mhz]
  make_cells
  connect_interfaces
  connect_clock_and_reset
  map_addresses
  validate_bd_design
  save_bd_design
}

proc bitward::make_ip {ip name {settings {}}} {
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:$ip $name]
  if {[llength $settings]} { set_property -dict $settings $cell }
}

proc bitward::make_cells {} {
  create_bd_cell -type module -reference bitward_accelerator accelerator
  make_ip proc_sys_reset reset
  make_ip smartconnect control {CONFIG.NUM_SI 1 CONFIG.NUM_MI 3 CONFIG.NUM_CLKS 1}
  make_ip smartconnect data {CONFIG.NUM_SI 2 CONFIG.NUM_MI 1 CONFIG.NUM_CLKS 1}
  make_ip axi_gpio axi_gpio {CONFIG.C_GPIO_WIDTH 4 CONFIG.C_ALL_OUTPUTS 1}
  make_ip axi_dma axi_dma [list \
    CONFIG.c_include_sg                0 \
    CONFIG.c_micro_dma                 0 \
    CONFIG.c_sg_length_width           [setting length_bits] \
    CONFIG.c_addr_width                40 \
    CONFIG.c_include_mm2s              1 \
    CONFIG.c_include_mm2s_dre          0 \
    CONFIG.c_m_axi_mm2s_data_width     [setting in_memory_bits] \
    CONFIG.c_m_axis_mm2s_tdata_width   [setting in_stream_bits] \
    CONFIG.c_include_s2mm              1 \
    CONFIG.c_include_s2mm_dre          0 \
    CONFIG.c_m_axi_s2mm_data_width     [setting out_memory_bits] \
  ]
}

proc bitward::connect_interfaces {} {
  foreach {from to} {
    zynq_ultra_ps_e_0/M_AXI_HPM0_FPD  control/S00_AXI
    control/M00_AXI                   accelerator/s_axilite
    control/M01_AXI                   axi_dma/S_AXI_LITE
    control/M02_AXI                   axi_gpio/S_AXI
    axi_dma/M_AXIS_MM2S               accelerator/s_axis
    accelerator/m_axis                axi_dma/S_AXIS_S2MM
    axi_dma/M_AXI_MM2S                data/S00_AXI
    axi_dma/M_AXI_S2MM                data/S01_AXI
    data/M00_AXI                      zynq_ultra_ps_e_0/S_AXI_HP0_FPD
  } {
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
  }
}

proc bitward::connect_clock_and_reset {} {
  drive zynq_ultra_ps_e_0/pl_clk0 {
    zynq_ultra_ps_e_0/maxihpm0_fpd_aclk zynq_ultra_ps_e_0/saxihp0_fpd_aclk
    reset/slowest_sync_clk control/aclk data/aclk accelerator/ap_clk axi_gpio/s_axi_aclk
    axi_dma/s_axi_lite_aclk axi_dma/m_axi_mm2s_aclk axi_dma/m_axi_s2mm_aclk
  }
  drive zynq_ultra_ps_e_0/pl_resetn0 {reset/ext_reset_in}
  drive reset/peripheral_aresetn {
    control/aresetn data/aresetn accelerator/ap_rst_n axi_gpio/s_axi_aresetn axi_dma/axi_resetn
  }
}

proc bitward::drive {source sinks} {
  foreach sink $sinks { connect_bd_net [get_bd_pins $source] [get_bd_pins $sink] }
}

# The processor reaches the accelerator, the DMA and the GPIO; the DMA reaches DDR and nothing else.
proc bitward::map_addresses {} {
  set processor [get_bd_addr_spaces zynq_ultra_ps_e_0/Data]
  foreach {slave window} {accelerator/s_axilite accelerator axi_dma/S_AXI_LITE dma axi_gpio/S_AXI gpio} {
    lassign [setting $window] base size
    assign_bd_address -offset $base -range $size -target_address_space $processor [segments $slave/*] -force
  }
  foreach name {axi_dma/Data_MM2S axi_dma/Data_S2MM} {
    set space [get_bd_addr_spaces $name]
    set all [segments zynq_ultra_ps_e_0/SAXIGP2/*]
    if {![llength [lsearch -all $all */HP0_DDR_*]]} { stop "the DMA must reach DDR, got no segment HP0_DDR_* of $all" }
    foreach segment $all {
      if {[string match */HP0_DDR_* $segment]} {
        assign_bd_address -target_address_space $space $segment -force
      } else {
        exclude_bd_addr_seg -target_address_space $space $segment
      }
    }
  }
}

proc bitward::segments {pattern} {
  set found [get_bd_addr_segs -quiet $pattern]
  if {![llength $found]} { stop "the block design must have an address segment $pattern, got none" }
  return $found
}
