# SPDX-License-Identifier: Apache-2.0
# The processing system of the K26 system-on-module: a board preset where one is installed, its settings here otherwise.
# Linux runs before an overlay is loaded, and the boot firmware set up DDR, MIO and PLLs: what stands here decides what
# reaches into the PL (ports, PL clock, the DDR addresses that a DMA may use) and what the .hwh says, no more.

# The newest KV260 board files of this Vivado; "" where none are installed.
proc bitward::kv260_board_part {} {
  return [lindex [lsort -dictionary [get_board_parts -quiet *:kv260_som:part0:*]] end]
}

# DDR4 and clocks of the module, as its preset has them (facts from XilinxBoardStore, boards/Xilinx/kv260_som/1.4).
proc bitward::k26_settings {} {
  return {
    CONFIG.PSU__PSS_REF_CLK__FREQMHZ               33.333
    CONFIG.PSU__DDRC__MEMORY_TYPE                  {DDR 4}
    CONFIG.PSU__DDRC__COMPONENTS                   Components
    CONFIG.PSU__DDRC__SPEED_BIN                    DDR4_2400R
    CONFIG.PSU__DDRC__BUS_WIDTH                    {64 Bit}
    CONFIG.PSU__DDRC__DRAM_WIDTH                   {16 Bits}
    CONFIG.PSU__DDRC__DEVICE_CAPACITY              {8192 MBits}
    CONFIG.PSU__DDRC__ECC                          Disabled
    CONFIG.PSU__DDRC__RANK_ADDR_COUNT              0
    CONFIG.PSU__DDRC__BG_ADDR_COUNT                1
    CONFIG.PSU__DDRC__BANK_ADDR_COUNT              2
    CONFIG.PSU__DDRC__ROW_ADDR_COUNT               16
    CONFIG.PSU__DDRC__COL_ADDR_COUNT               10
    CONFIG.PSU__DDRC__CL                           16
    CONFIG.PSU__DDRC__CWL                          14
    CONFIG.PSU__DDRC__T_RCD                        16
    CONFIG.PSU__DDRC__T_RP                         16
    CONFIG.PSU__DDRC__T_RC                         47.06
    CONFIG.PSU__DDRC__T_RAS_MIN                    33
    CONFIG.PSU__DDRC__T_FAW                        30.0
    CONFIG.PSU__CRF_APB__DDR_CTRL__SRCSEL          DPLL
    CONFIG.PSU__CRF_APB__DDR_CTRL__FREQMHZ         1200
    CONFIG.PSU__CRF_APB__ACPU_CTRL__SRCSEL         APLL
    CONFIG.PSU__CRF_APB__ACPU_CTRL__FREQMHZ        1333.333
    CONFIG.PSU__CRF_APB__TOPSW_MAIN_CTRL__SRCSEL   DPLL
    CONFIG.PSU__CRF_APB__TOPSW_MAIN_CTRL__FREQMHZ  533.33
    CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__SRCSEL   IOPLL
    CONFIG.PSU__CRL_APB__IOU_SWITCH_CTRL__FREQMHZ  250
    CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__SRCSEL   IOPLL
    CONFIG.PSU__CRL_APB__LPD_SWITCH_CTRL__FREQMHZ  500
    CONFIG.PSU__CRL_APB__ADMA_REF_CTRL__SRCSEL     IOPLL
    CONFIG.PSU__CRL_APB__ADMA_REF_CTRL__FREQMHZ    500
    CONFIG.PSU__CRL_APB__PCAP_CTRL__SRCSEL         IOPLL
    CONFIG.PSU__CRL_APB__PCAP_CTRL__FREQMHZ        200
  }
}

# What our design uses, whatever the preset says: HPM0 FPD, HP0, PL clock and reset 0. Ports have 128 bits, as the PS
# has them at reset, so that they fit also where nobody sets the width before loading.
proc bitward::used_ports {clk_mhz} {
  return [list \
    CONFIG.PSU__USE__M_AXI_GP0                  1 \
    CONFIG.PSU__MAXIGP0__DATA_WIDTH             128 \
    CONFIG.PSU__USE__M_AXI_GP1                  0 \
    CONFIG.PSU__USE__M_AXI_GP2                  0 \
    CONFIG.PSU__USE__S_AXI_GP2                  1 \
    CONFIG.PSU__SAXIGP2__DATA_WIDTH             128 \
    CONFIG.PSU__USE__IRQ0                       0 \
    CONFIG.PSU__USE__IRQ1                       0 \
    CONFIG.PSU__USE__FABRIC__RST                1 \
    CONFIG.PSU__NUM_FABRIC_RESETS               1 \
    CONFIG.PSU__FPGA_PL0_ENABLE                 1 \
    CONFIG.PSU__FPGA_PL1_ENABLE                 0 \
    CONFIG.PSU__FPGA_PL2_ENABLE                 0 \
    CONFIG.PSU__FPGA_PL3_ENABLE                 0 \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__SRCSEL   IOPLL \
    CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ  $clk_mhz \
  ]
}

proc bitward::make_ps {name clk_mhz} {
  set cell [create_bd_cell -type ip -vlnv xilinx.com:ip:zynq_ultra_ps_e $name]
  if {[get_property board_part [current_project]] ne ""} {
    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset "1"} $cell
  } else {
    set_property -dict [k26_settings] $cell
  }
  set_property -dict [used_ports $clk_mhz] $cell
}
