#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""QEMU in the place of lodge-vmm: takes the same `--config FILE`, runs the same kernel, disk and lodge-init.

With LODGE_VMM naming this program, everything of `lodge run --vm` but the monitor is tested against a machine that is not ours. QEMU
without vhost has no vsock: the agent talks over four virtio serial ports instead, one for each role (lodge.agent=serial).
"""
import json
import os
import subprocess
import sys

BUILD = os.environ.get("LODGE_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))


def main():
    with open(sys.argv[2]) as file:
        config = json.load(file)
    kernel = os.path.basename(os.path.dirname(config["kernel"]))
    initrd = subprocess.run([os.path.join(BUILD, "bin/lodge"), "kernels", "--initramfs", kernel, "--module", "virtio_pci",
                             "--module", "virtio_console"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    cmdline = config["cmdline"].replace("lodge.agent=vsock:1024", "lodge.agent=serial")
    command = ["qemu-system-x86_64", "-M", "pc", "-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none",
               "-no-reboot", "-serial", "stdio", "-m", str(config["memory"] >> 20), "-smp", str(config["cpus"]),
               "-kernel", config["kernel"], "-initrd", initrd, "-append", cmdline, "-device", "virtio-serial-pci"]
    for disk in config["disks"]:
        # Our lock on a shared image, over the whole file, is also in the place of QEMU's own bytes: another test may hold it.
        command += ["-drive", f"file.driver=file,file.filename={disk['path']},file.locking=off,if=virtio,format=raw,readonly={'on' if disk['read_only'] else 'off'}"]
    for role in range(4):
        command += ["-chardev", f"socket,id=c{role},path={config['vsock']['path']}_1024",
                    "-device", f"virtserialport,chardev=c{role},name=lodge.{role}"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
