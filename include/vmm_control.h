/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a VM: a unix stream socket at the path given by --control, one JSON object
 * a line in both directions, UTF-8, at most VMM_CONTROL_LINE_MAX bytes with the newline.
 *
 *   request:  {"id": 7, "command": "state", "cpu": 0}
 *   reply:    {"id": 7, "ok": true, "result": {...}}
 *             {"id": 7, "ok": false, "error": "vCPU 9 does not exist"}
 *
 * `id` is any JSON value, returned unchanged; absent gives null. Replies come in the order of the
 * requests of a connection. Several connections may be open at once. When the VM ends, so does each
 * of them: an end of file, for a request that came too late, too.
 *
 *   status        {"state", "engine", "pid", "cpus", "memory_bytes", "uptime_ms", "reboots"}
 *                 state: "starting", "running", "paused", "stopping"
 *   pause         stops every vCPU between two instructions; {} once all of them stand
 *   resume        {}
 *   stop          ends the VM as a power cut would; the process exits with status 0
 *   power-button  the guest's ACPI power button; {} (what the guest does is its own affair)
 *   counters      {"cpus": [{"instructions", "blocks_decoded", "blocks_invalidated",
 *                 "blocks_translated", "translated_exits", "translated_fills",
 *                 "translated_handbacks", "tlb_misses", "tlb_flushes", "exceptions", "interrupts",
 *                 "io_accesses", "mmio_accesses", "halts"}, ...]}
 *                 with the member "cpu": an array of this vCPU alone, which has what its engine
 *                 tells besides. soft: {"code": {"instructions", "bytes", "killed", "flushes",
 *                 "used_bytes", "cap_bytes", "side_used_bytes", "side_cap_bytes"},
 *                 "exits": {REASON: N, ...}, "handbacks": {INSTRUCTION: N, ...}}, the highest 48
 *   state         member "cpu" (default 0): {"cpu", "registers": {name: "0x..."}, "activity"};
 *                 the VM stands for the moment of the reading
 *   balloon       {"driver", "target_bytes", "guest_bytes", "returned_bytes", "statistics": {...},
 *                 "statistics_age_ms"}; with the member "target_bytes": that much memory is to be
 *                 left to the guest (its driver complies in its own time: see guest_bytes).
 *                 returned_bytes: in all, what was given back to the host, reported free pages
 *                 too. statistics: what the guest's driver says; asking makes it say it anew
 *   attach-disk   "id" (its serial number, 1 to 20 bytes), "format" (raw, qcow2), "read_only"; the
 *                 file's descriptor comes along (SCM_RIGHTS). {} when it is plugged; the guest
 *                 takes it in its own time: see devices
 *   attach-net    "id", "net" (as --net); with the descriptor of a tap
 *   detach        "id", "force": {"state"}: "asked" (gone from devices once the guest has ejected
 *                 it; with --places once its driver has left it), "revoked" (by force: the file is
 *                 closed, the guest sees errors), "gone"
 *   devices       {"devices": [{"id", "kind", "slot", "driven", "asked", "boot", "revoked"}, ...]}:
 *                 what came while the VM ran, or (boot) can leave all the same. driven: the guest's
 * driver works with it
 */
#ifndef LODGE_VMM_CONTROL_H
#define LODGE_VMM_CONTROL_H

#define VMM_CONTROL_LINE_MAX        65536
#define VMM_CONTROL_CONNECTIONS_MAX 16

#define VMM_CONTROL_STATUS       "status"
#define VMM_CONTROL_PAUSE        "pause"
#define VMM_CONTROL_RESUME       "resume"
#define VMM_CONTROL_STOP         "stop"
#define VMM_CONTROL_POWER_BUTTON "power-button"
#define VMM_CONTROL_COUNTERS     "counters"
#define VMM_CONTROL_PERF_MAP     "perf-map"
#define VMM_CONTROL_BALLOON      "balloon"
#define VMM_CONTROL_STATE        "state"
#define VMM_CONTROL_ATTACH_DISK  "attach-disk"
#define VMM_CONTROL_ATTACH_NET   "attach-net"
#define VMM_CONTROL_DETACH       "detach"
#define VMM_CONTROL_DEVICES      "devices"

#endif
