// Package slurm knows Slurm on one node: what a prolog and an epilog have in
// their environment, and what the cgroups that slurmd makes show of a job. Both
// are made by root; nothing here is taken from the environment of a job's
// processes, which their user can edit.
//
// The prolog is the first witness. The Watcher is the second: it follows the
// cgroups of version 1 and 2, begins a job whose prolog was not heard, and ends
// one whose epilog was not. What the prolog said is never overruled by it.
//
// Sources: prolog_epilog.html, cgroups.html, cgroup_v2.html and scontrol(1) of
// Slurm, and src/plugins/prep/script/prep_script_slurmd.c for the environment.
package slurm
