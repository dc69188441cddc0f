// Package packaging holds what a distribution package installs beside the
// binaries: systemd units, users, folders and example settings, and how the deb
// and rpm packages are made of them (nfpm, scripts; scripts/packages.sh). It has
// no code; its test checks the units with systemd's own tools.
package packaging
