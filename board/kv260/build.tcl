# SPDX-License-Identifier: Apache-2.0
# From the RTL of a build to a bitstream, in project batch mode; Vivado 2022.2 and later. Not yet run on hardware: no
# Vivado was at hand when this was written. bitward bitstream copies it beside settings.tcl and runs, in that folder,
#
#   vivado -mode batch -notrace -log vivado.log -journal vivado.jou -source build.tcl
#
# Leaves reports/, out/NAME.hwh and, only where all holds, out/NAME.bit. Stops with a sentence and exit code 1 at a failed
# run, a critical warning that allowed_critical_warnings.txt does not list, and negative slack.

set here [file dirname [file normalize [info script]]]
cd $here
namespace eval bitward {}  ;# so that no name is one of Vivado's own, such as stop
foreach part {settings ps design} { source [file join $here $part.tcl] }

proc bitward::setting {name} { return [dict get $::settings $name] }

proc bitward::stop {sentence} {
  puts "ERROR: bitward: $sentence"
  exit 1
}

proc bitward::require_version {year release} {
  if {![regexp {^(\d+)\.(\d+)} [version -short] text found_year found_release]} {
    stop "Vivado must tell its version as YEAR.RELEASE, got [version -short]"
  }
  if {$found_year < $year || ($found_year == $year && $found_release < $release)} {
    stop "Vivado must be $year.$release or later, got [version -short]: install a newer one"
  }
}

proc bitward::read_lines {path} {
  set channel [open $path]
  set lines [split [string trim [read $channel]] \n]
  close $channel
  return $lines
}

proc bitward::refuse_critical_warnings {log} {
  set allowed {}
  foreach line [read_lines allowed_critical_warnings.txt] {
    if {[regexp {^\[([^\]]+)\]} $line text id]} { lappend allowed $id }
  }
  foreach line [read_lines $log] {
    if {[regexp {^CRITICAL WARNING: \[([^\]]+)\]} $line text id] && $id ni $allowed} {
      stop "[file tail $log] must hold no critical warning, got: $line"
    }
  }
}

proc bitward::make_project {} {
  create_project -force bitward project -part [setting part]
  set board [kv260_board_part]
  if {$board ne ""} { set_property board_part $board [current_project] }
  puts "bitward: processing system: [expr {$board ne {} ? "preset of $board" : {settings for the K26}}]"
  set_property target_language Verilog [current_project]
  set rtl [file normalize ../rtl]
  set files [lmap name [read_lines [file join $rtl files.f]] { file join $rtl $name }]
  add_files -norecurse [concat $files accelerator.v]
  set memories [lsort [glob -nocomplain -directory $rtl *.dat]]
  if {[llength $memories]} {
    add_files -norecurse $memories
    set_property file_type {Memory Initialization Files} [get_files *.dat]
  }
  set_property include_dirs $rtl [current_fileset]
  update_compile_order -fileset sources_1
}

# One synthesis of everything, in one log: no checkpoint of a block's own may hide a warning.
proc bitward::finish_design {} {
  set design [get_files system.bd]
  set_property synth_checkpoint_mode None $design
  generate_target all $design
  add_files -norecurse [make_wrapper -files $design -top]
  set_property top system_wrapper [current_fileset]
  update_compile_order -fileset sources_1
  set handoff [glob -nocomplain project/bitward.*/sources_1/bd/system/hw_handoff/system.hwh]
  if {[llength $handoff] != 1} { stop "Vivado must write one system.hwh, got [llength $handoff]" }
  file copy -force $handoff out/[setting name].hwh
}

proc bitward::run_whole {name} {
  launch_runs $name
  wait_on_run $name
  set run [get_runs $name]
  set log [file join [get_property DIRECTORY $run] runme.log]
  if {[file exists $log]} { file copy -force $log reports/$name.log }
  if {[get_property PROGRESS $run] ne "100%" || ![string match *Complete* [get_property STATUS $run]]} {
    stop "run $name must end complete, got [get_property STATUS $run]: see reports/$name.log"
  }
}

proc bitward::write_reports {} {
  report_utilization -file reports/utilization.rpt
  report_utilization -hierarchical -file reports/utilization_hierarchical.rpt
  report_timing_summary -file reports/timing.rpt
  report_power -file reports/power.rpt
  report_route_status -file reports/route.rpt
}

proc bitward::refuse_negative_slack {} {
  foreach {what delay} {setup max hold min} {
    set path [get_timing_paths -delay_type $delay -max_paths 1]
    set slack [expr {[llength $path] ? [get_property SLACK $path] : ""}]
    if {![string is double -strict $slack]} {
      stop "the design must have a constrained path, got none for $what: is the clock there?"
    }
    if {$slack < 0} {
      stop "worst $what slack must not be negative, got $slack ns at [setting clk_mhz] MHz: ask for a slower clock"
    }
  }
}

proc bitward::main {} {
  require_version 2022 2
  file delete -force project reports out
  file mkdir reports out
  make_project
  make_design system
  finish_design
  if {[file exists vivado.log]} { refuse_critical_warnings vivado.log }
  set_property STEPS.SYNTH_DESIGN.TCL.PRE [file join $::here memories.tcl] [get_runs synth_1]
  run_whole synth_1
  refuse_critical_warnings reports/synth_1.log
  run_whole impl_1
  open_run impl_1
  write_reports
  refuse_negative_slack
  refuse_critical_warnings reports/impl_1.log
  write_bitstream -force out/unfinished.bit
  file rename -force out/unfinished.bit out/[setting name].bit
  puts "bitward: out/[setting name].bit is written"
}

bitward::main
