# SPDX-License-Identifier: Apache-2.0
# Stands in for Vivado under tclsh: `tclsh vivado.tcl -mode batch ... -source SCRIPT`. Its commands know the pins that the
# IP blocks have for their settings (PG021, PG144, PG164, PG201, PG247), refuse others, and write what the script does
# to record.tsv, line by line; reports are canned. FAKE_VIVADO is a Tcl dictionary of what is to go otherwise.

set ::fake [file dirname [file normalize [info script]]]
set ::case [dict merge {
  version 2024.1 board xilinx.com:kv260_som:part0:1.4 wns 0.312 whs 0.011 bit whole
  synth_1 {synth_design Complete!} impl_1 {route_design Complete!} progress 100%
  say_design {} say_synth_1 {} say_impl_1 {} forget {} segments {HP0_DDR_LOW HP0_DDR_HIGH HP0_LPS_OCM HP0_QSPI}
} [expr {[info exists ::env(FAKE_VIVADO)] ? $::env(FAKE_VIVADO) : {}}]]
set ::record [open record.tsv w]
set ::cells {}
set ::config {}
set ::files {}
set ::addresses {}
set ::properties [dict create project,board_part {}]

proc case {name} { return [dict get $::case $name] }
proc note {args} { puts $::record [join $args \t]; flush $::record }
proc refuse {sentence} { puts "ERROR: fake vivado: $sentence"; exit 3 }

# Words of a command line: options as a dictionary (flags are 1), the rest as a list.
proc options {words flags} {
  set found {}
  set rest {}
  for {set at 0} {$at < [llength $words]} {incr at} {
    set word [lindex $words $at]
    if {$word in $flags} {
      dict set found $word 1
    } elseif {[regexp {^-[a-z_]+$} $word]} {
      dict set found $word [lindex $words [incr at]]
    } else {
      lappend rest $word
    }
  }
  return [list $found $rest]
}

# ---- pins ------------------------------------------------------------------------------------------------
proc setting_of {cell name default} {
  if {[dict exists $::config $cell CONFIG.$name]} { return [dict get $::config $cell CONFIG.$name] }
  return $default
}

# {pin class} of a cell; classes: master, slave (with a protocol), clock, reset, clock_out, reset_out, optional.
proc pins_of {cell} { return [pins_[dict get $::cells $cell] $cell] }

proc pins_zynq_ultra_ps_e {cell} {
  set pins {}
  foreach {name used port clock default} {
    PSU__USE__M_AXI_GP0 master M_AXI_HPM0_FPD maxihpm0_fpd_aclk 1
    PSU__USE__M_AXI_GP1 master M_AXI_HPM1_FPD maxihpm1_fpd_aclk 1
    PSU__USE__M_AXI_GP2 master M_AXI_HPM0_LPD maxihpm0_lpd_aclk 0
    PSU__USE__S_AXI_GP2 slave  S_AXI_HP0_FPD  saxihp0_fpd_aclk  0
  } {
    if {[setting_of $cell $name $default]} { lappend pins [list $port $used aximm] [list $clock clock] }
  }
  foreach number {0 1 2 3} {
    if {[setting_of $cell PSU__FPGA_PL${number}_ENABLE [expr {$number == 0}]]} { lappend pins "pl_clk$number clock_out" }
  }
  if {[setting_of $cell PSU__USE__FABRIC__RST 1]} { lappend pins {pl_resetn0 reset_out} }
  if {[setting_of $cell PSU__USE__IRQ0 1]} { lappend pins {pl_ps_irq0 optional} }
  return $pins
}

proc pins_smartconnect {cell} {
  set pins {{aclk clock} {aresetn reset}}
  for {set at 0} {$at < [setting_of $cell NUM_SI 2]} {incr at} { lappend pins [list [format S%02d_AXI $at] slave aximm] }
  for {set at 0} {$at < [setting_of $cell NUM_MI 1]} {incr at} { lappend pins [list [format M%02d_AXI $at] master aximm] }
  for {set at 1} {$at < [setting_of $cell NUM_CLKS 1]} {incr at} { lappend pins "aclk$at clock" }
  return $pins
}

proc pins_axi_dma {cell} {
  set pins {{S_AXI_LITE slave aximm} {s_axi_lite_aclk clock} {axi_resetn reset} {mm2s_introut optional}}
  if {[setting_of $cell c_include_sg 1]} { lappend pins {M_AXI_SG master aximm} {m_axi_sg_aclk clock} }
  if {[setting_of $cell c_include_mm2s 1]} {
    lappend pins {M_AXI_MM2S master aximm} {M_AXIS_MM2S master axis} {m_axi_mm2s_aclk clock}
  }
  if {[setting_of $cell c_include_s2mm 1]} {
    lappend pins {M_AXI_S2MM master aximm} {S_AXIS_S2MM slave axis} {m_axi_s2mm_aclk clock}
  }
  return $pins
}

proc pins_axi_gpio {cell} { return {{S_AXI slave aximm} {s_axi_aclk clock} {s_axi_aresetn reset} {gpio_io_o optional}} }

proc pins_proc_sys_reset {cell} {
  return {
    {slowest_sync_clk clock} {ext_reset_in reset} {aux_reset_in optional} {dcm_locked optional}
    {peripheral_aresetn reset_out} {interconnect_aresetn reset_out}
  }
}

# Interfaces of an RTL module, from the attributes before its ports.
proc pins_module {cell} {
  set pins {}
  set pattern {X_INTERFACE_INFO = "xilinx.com:(?:interface|signal):(\w+):1.0 (\w+) (\w+)" \*\)\s+(?:\(\* [^*]+\*\)\s+)?(input|output)}
  foreach {all protocol name signal direction} [regexp -all -inline $pattern [dict get $::properties module_text]] {
    if {$protocol in {clock reset}} { lappend pins [list $name $protocol] }
    if {$signal in {TVALID AWVALID}} {
      lappend pins [list $name [expr {$direction eq "input" ? "slave" : "master"}] $protocol]
    }
  }
  return $pins
}

proc pin {path intf} {
  lassign [split $path /] cell name
  if {![dict exists $::cells $cell]} { refuse "no cell $cell" }
  foreach entry [pins_of $cell] {
    if {[lindex $entry 0] eq $name && ([lindex $entry 1] in {master slave}) == $intf} { return $path }
  }
  refuse "cell $cell has no pin $name"
}

proc get_bd_pins {path} { return [pin $path 0] }
proc get_bd_intf_pins {path} { return [pin $path 1] }

# ---- block design ----------------------------------------------------------------------------------------
proc create_bd_design {name} { note design $name }

proc create_bd_cell {args} {
  lassign [options $args {}] found rest
  set name [lindex $rest end]
  if {[dict get $found -type] eq "module"} {
    set module [dict get $found -reference]
    foreach file $::files {
      if {[file extension $file] ne ".v"} continue
      set text [read_file $file]
      if {[regexp "module $module\\M" $text]} { dict set ::properties module_text $text }
    }
    if {![dict exists $::properties module_text]} { refuse "no Verilog module $module among the files added" }
    dict set ::cells $name module
  } else {
    dict set ::cells $name [lindex [split [dict get $found -vlnv] :] 2]
  }
  note cell $name [dict get $::cells $name]
  return $name
}

proc apply_bd_automation {args} {
  lassign [options $args {}] found rest
  if {[dict get $::properties project,board_part] eq ""} { refuse "no board preset without a board part" }
  dict set ::config [lindex $rest 0] CONFIG.PSU__FPGA_PL1_ENABLE 1
  note preset [lindex $rest 0]
}

proc set_property {args} {
  lassign [options $args {}] found rest
  if {[dict exists $found -dict]} {
    set cell [lindex $rest 0]
    if {![dict exists $::cells $cell]} { refuse "no cell $cell" }
    foreach {name value} [dict get $found -dict] { dict set ::config $cell $name $value; note config $cell $name $value }
  } else {
    lassign $rest name value target
    dict set ::properties $target,$name $value
    note property $target $name $value
  }
}

proc get_property {name target} {
  if {$name eq "SLACK"} { return [case $target] }
  if {$name eq "DIRECTORY"} { return [file join [pwd] project bitward.runs $target] }
  if {$name eq "PROGRESS"} { return [case progress] }
  if {$name eq "STATUS"} { return [case $target] }
  return [dict get $::properties $target,$name]
}

proc connect_bd_net {args} {
  if {[lindex $args 1] in [case forget]} return
  note net {*}$args
}
proc connect_bd_intf_net {args} {
  if {[lindex $args 1] in [case forget]} return
  note intf {*}$args
}

proc get_bd_addr_spaces {path} {
  if {$path ni {zynq_ultra_ps_e_0/Data axi_dma/Data_MM2S axi_dma/Data_S2MM}} { refuse "no address space $path" }
  return $path
}

proc get_bd_addr_segs {args} {
  lassign [options $args -quiet] found rest
  set all {/accelerator/s_axilite/reg0 /axi_dma/S_AXI_LITE/Reg /axi_gpio/S_AXI/Reg}
  foreach name [case segments] { lappend all /zynq_ultra_ps_e_0/SAXIGP2/$name }
  return [lsearch -all -inline $all /[lindex $rest 0]]
}

proc assign_bd_address {args} {
  lassign [options $args -force] found rest
  set window {}
  if {[dict exists $found -offset]} { set window [list [dict get $found -offset] [dict get $found -range]] }
  lappend ::addresses [list [dict get $found -target_address_space] [lindex $rest 0] $window]
  note address [dict get $found -target_address_space] [lindex $rest 0] {*}$window
}

proc exclude_bd_addr_seg {args} {
  lassign [options $args {}] found rest
  note exclude [dict get $found -target_address_space] [lindex $rest 0]
}

proc validate_bd_design {} {
  foreach cell [dict keys $::cells] {
    foreach entry [pins_of $cell] { note pin $cell/[lindex $entry 0] {*}[lrange $entry 1 end] }
  }
  set log [open vivado.log w]
  puts $log [case say_design]
  close $log
  puts [case say_design]
  note validate
}
proc save_bd_design {} {}

# The handoff file, from what the script set and assigned.
proc generate_target {what design} {
  set lines {<EDKSYSTEM> <MODULES>}
  foreach {cell kind} $::cells {
    lappend lines "<MODULE INSTANCE=\"$cell\" MODTYPE=\"$kind\"><PARAMETERS>"
    foreach {name value} [handoff_parameters $cell] { lappend lines "<PARAMETER NAME=\"$name\" VALUE=\"$value\"/>" }
    lappend lines </PARAMETERS> <MEMORYMAP>
    foreach entry $::addresses {
      lassign $entry space segment window
      if {$kind ne "zynq_ultra_ps_e" || $space ne "$cell/Data"} continue
      lassign $window base size
      set high [format 0x%X [expr {$base + $size - 1}]]
      set attributes "INSTANCE=\"[lindex [split $segment /] 1]\" BASEVALUE=\"$base\" HIGHVALUE=\"$high\""
      lappend lines "<MEMRANGE $attributes MASTERBUSINTERFACE=\"M_AXI_HPM0_FPD\" MEMTYPE=\"REGISTER\"/>"
    }
    lappend lines </MEMORYMAP> </MODULE>
  }
  lappend lines </MODULES> </EDKSYSTEM>
  write_text project/bitward.gen/sources_1/bd/system/hw_handoff/system.hwh [join $lines \n]
}

proc handoff_parameters {cell} {
  set parameters {}
  if {[dict exists $::config $cell]} {
    dict for {name value} [dict get $::config $cell] { lappend parameters [string range $name 7 end] $value }
  }
  if {[dict get $::cells $cell] eq "axi_dma"} {  # Vivado takes this width from the stream that is connected
    regexp {output wire \[(\d+):0\] m_axis_tdata} [dict get $::properties module_text] all top
    lappend parameters c_s_axis_s2mm_tdata_width [expr {$top + 1}]
  }
  if {[dict get $::cells $cell] eq "zynq_ultra_ps_e"} {
    set divisor [expr {round(1000 / [setting_of $cell PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 100])}]
    lappend parameters PSU__CRL_APB__PL0_REF_CTRL__DIVISOR0 $divisor PSU__CRL_APB__PL0_REF_CTRL__DIVISOR1 1
    lappend parameters PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ [format %.6f [expr {999.99 / $divisor}]]
  }
  return $parameters
}

# ---- project and runs ------------------------------------------------------------------------------------
proc version {args} { return [case version] }
proc get_board_parts {args} { return [case board] }
proc create_project {args} { file mkdir project; note create_project {*}$args }
proc current_project {} { return project }
proc current_fileset {} { return sources_1 }
proc update_compile_order {args} {}
proc get_files {pattern} { return $pattern }
proc get_runs {name} { return $name }
proc set_param {args} { note set_param {*}$args }

proc add_files {args} {
  lassign [options $args -norecurse] found rest
  foreach file [lindex $rest 0] {
    if {![file isfile $file]} { refuse "no file $file" }
    lappend ::files $file
    note file [file tail $file]
  }
}

proc make_wrapper {args} {
  write_text project/system_wrapper.v "module system_wrapper; endmodule"
  return project/system_wrapper.v
}

proc launch_runs {name} {
  note launch $name
  set folder [get_property DIRECTORY $name]
  set log [list "*** Running vivado" [case say_$name]]
  if {$name eq "synth_1"} {
    set here [pwd]
    file mkdir $folder
    cd $folder
    source [dict get $::properties synth_1,STEPS.SYNTH_DESIGN.TCL.PRE]
    foreach file [lsort [glob -nocomplain *.dat]] {
      lappend log "INFO: \[Synth 8-3876\] \$readmem data file '$file' is read successfully \[x.sv:1\]"
    }
    cd $here
  }
  write_text $folder/runme.log [join $log \n]
}
proc wait_on_run {name} { note wait $name }
proc open_run {name} { note open $name }
proc get_timing_paths {args} { return [dict get {max wns min whs} [dict get [lindex [options $args {}] 0] -delay_type]] }

proc canned {report target} {
  note report $report
  write_text $target [string map [list @WNS@ [case wns] @WHS@ [case whs]] [read_file $::fake/reports/$report.rpt]]
}
proc report_utilization {args} { canned utilization [lindex $args end] }
proc report_timing_summary {args} { canned timing [lindex $args end] }
proc report_power {args} { canned power [lindex $args end] }
proc report_route_status {args} { write_text [lindex $args end] routed }

proc write_bitstream {force path} {
  note write_bitstream $path
  if {[case bit] eq "missing"} { refuse "no licence" }
  set body [string repeat \x00 64]
  set bit [binary format SH* 9 0ff00ff00ff00ff000]
  append bit [binary format S 1]
  foreach {letter text} [list a "system_wrapper;UserID=0XFFFFFFFF;Version=[case version]" b xck26 c 2026/01/01 d 00:00:00] {
    append bit $letter [binary format S [expr {[string length $text] + 1}]] $text \x00
  }
  append bit e [binary format I 64] [expr {[case bit] eq "cut" ? [string range $body 0 31] : $body}]
  write_text $path $bit binary
}

# ---- files -----------------------------------------------------------------------------------------------
proc read_file {path} {
  set channel [open $path]
  set text [read $channel]
  close $channel
  return $text
}
proc write_text {path text {translation lf}} {
  file mkdir [file dirname $path]
  set channel [open $path w]
  fconfigure $channel -translation $translation
  puts -nonewline $channel $text
  close $channel
}

puts "****** Vivado v[case version] (fake)"
set script [dict get [lindex [options $argv -notrace] 0] -source]
note arguments {*}$argv
source $script
