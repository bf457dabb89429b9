# What a builder does before it stops: an image is made of its disk. Part of boot.sh, on builders only.
#
# Who may log in to the builder may not log in to its children: cloud-init gives each its own key at its first boot. EC2's
# own Image Builder removes these files, too.
#
# What is ours goes, and what cloud-init did here, or each child would boot with this machine's timer and end. What is
# still needed is kept in memory. A bare `return` would not do: under a trap it returns what was before the trap (bash's
# manual). Amazon Linux 2023 has a cloud-init (22.2) that may not know --machine-id yet; an empty file is what systemd
# takes for a machine that never booted.
clean() {
  tail -c 262144 "$LOG" >"$D/log" && cp "$X/put" "$D/put" || return 1
  rm -f "$LOG"
  LOG=$D/log P=$D/put
  rm -rf "$X" /var/lib/cloud/scripts/per-boot/transient-off || return 1
  rm -f /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys || return 1
  cloud-init clean --logs --machine-id || { cloud-init clean --logs && : >/etc/machine-id; } || return 1
  sync
}
