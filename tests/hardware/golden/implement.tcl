# Written by bitward; run in this folder: vivado -mode batch -source implement.tcl
set rtl [file normalize ../rtl]
foreach file [split [string trim [read [open $rtl/files.f]]] "\n"] {
  if {[file extension $file] eq ".sv"} { read_verilog -sv $rtl/$file } else { read_verilog $rtl/$file }
}
foreach file [glob -nocomplain $rtl/*.dat] { read_mem $file }
set clock [open clock.xdc w]
puts $clock "create_clock -name ap_clk -period 5.000 \[get_ports ap_clk\]"
close $clock
read_xdc -mode out_of_context clock.xdc
synth_design -top bitward_top -part xck26-sfvc784-2LV-c -mode out_of_context -include_dirs $rtl
opt_design
place_design
route_design
write_checkpoint -force bitward_top.dcp
report_utilization -hierarchical -file utilization.rpt
report_timing_summary -file timing.rpt
