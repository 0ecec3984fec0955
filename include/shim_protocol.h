/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the manager and lodge-shim, the process beside each running instance.
 *
 * The shim is started as `lodge-shim FILE`; FILE is its configuration:
 *
 *   {"id", "run": N, "runtime": [program, argument...], "program": PATH of lodge-oci or "",
 *    "root": state root of lodge-oci, "pid_file", "console_socket", "socket", "exit_file",
 *    "log_file", "log_max": bytes, "tty", "stdin", "env": [...], "foreground": bool,
 *    "enter": [cgroup.procs file...],
 *    "agent_socket": a VM's vsock socket or ""}
 *
 * `runtime` makes the guest run: lodge-oci run --detach, which leaves its first process to the shim
 * (pid_file), or, with `foreground`, a process that is the guest as long as it lives (a VM's
 * session). Descriptors it inherits: SHIM_FD_LOCK holds the instance's lock (flock) as long as the
 * shim lives; SHIM_FD_MANAGER is a control connection on which `watch` was already asked for;
 * SHIM_FD_CLIENT, when configured by "client": true, is a client's stream to be attached before the
 * guest starts.
 *
 * What the shim starts enters the cgroups of `enter` first (a VM's session and all it starts).
 *
 * Control connections: unix SOCK_SEQPACKET, one JSON object a packet, at most SHIM_PACKET_MAX
 * bytes.
 *
 *   {"command": "watch"}           {"event": "running", "pid", "started_ns"}, later
 *                                  {"event": "exited", "exit_code", "signal", "oom", "finished_ns",
 *                                  "error"}; the shim ends when the exit is on disk and said
 *   {"command": "kill", "signal"}  {"ok": true} or {"ok": false, "error"}
 *   {"command": "attach"} + fd     {"ok": true}; the fd is served as stream_protocol.h says
 *   {"command": "exec", "process": OCI process object, "stdin": bool} + fd
 *                                  {"ok": true}; likewise, ended with its exit status. In a VM the
 *                                  process is what shim/session.h has
 *   {"command": "cgroup", "path"}  {"ok": true}; the container was moved to this cgroup
 *   {"command": "resize", "rows", "cols"}
 *                                  {"ok": true}
 *
 * The exit file, replaced as a whole: {"run", "exit_code", "signal", "oom", "started_ns",
 * "finished_ns", "error"}.
 *
 * The log file: one entry a line, "TIME STREAM FLAG TEXT\n", as container logs are written
 * elsewhere too: TIME is RFC 3339 with nanoseconds, STREAM stdout or stderr, FLAG F for a whole
 * line and P for a part of one (no line end after it in the output). Past log_max bytes it becomes
 * FILE.1.
 */
#ifndef LODGE_SHIM_PROTOCOL_H
#define LODGE_SHIM_PROTOCOL_H

#define SHIM_FD_LOCK    3
#define SHIM_FD_MANAGER 4
#define SHIM_FD_CLIENT  5

#define SHIM_PACKET_MAX 65536

#endif
