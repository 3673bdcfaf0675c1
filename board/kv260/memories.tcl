# SPDX-License-Identifier: Apache-2.0
# Runs in the synthesis run's own process, in its folder: $readmemh finds the memories' contents there by name, and the
# log names each file that was read (Vivado would stop after a hundred).
set_param messaging.defaultLimit 100000
set rtl [file join [file dirname [file normalize [info script]]] .. rtl]
foreach file [glob -nocomplain -directory $rtl *.dat] { file copy -force $file [pwd] }
