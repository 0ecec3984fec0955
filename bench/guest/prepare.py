#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Scripts and data for the programs of bench/guest/programs.c: prepare.py DIRECTORY

Everything is generated, the same each time: a text, a C file of two thousand lines, and scripts for Lua, SQLite, Python and the shell.
"""
import gzip
import random
import sys
import textwrap
from pathlib import Path

LONG = 10

LUA = """
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end

local function sieve(limit)
  local composite, count = {}, 0
  for i = 2, limit do
    if not composite[i] then
      count = count + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return count
end

local function words(count)
  local seen, parts, seed = {}, {}, 42
  for i = 1, count do
    seed = (seed * 1103515245 + 12345) % 2147483648
    local word = string.format("w%d", seed // 65536 % 997)
    seen[word] = (seen[word] or 0) + 1
    parts[#parts + 1] = word
  end
  local text, matches = table.concat(parts, " "), 0
  for word in text:gmatch("w%d+7") do matches = matches + #word end
  local keys = {}
  for key in pairs(seen) do keys[#keys + 1] = key end
  table.sort(keys)
  return matches, keys[1], keys[#keys], seen[keys[10]]
end

local Point = {}
Point.__index = Point
function Point.new(x, y) return setmetatable({x = x, y = y}, Point) end
function Point:add(other) return Point.new(self.x + other.x, self.y + other.y) end

local function objects(count)
  local sum = Point.new(0, 0)
  for i = 1, count do sum = sum:add(Point.new(i, i / 2)) end
  return sum.x, sum.y
end

local function closures(count)
  local total = 0
  local function counter(step) return function() total = total + step end end
  for i = 1, count do counter(i % 7)() end
  return total
end

"""
LUA_MAIN = """
print(fib(24), sieve(60000))
print(words(20000))
print(objects(80000))
print(closures(80000))
"""

SQL = """
PRAGMA temp_store = memory;
CREATE TABLE one(a INTEGER PRIMARY KEY, b INTEGER, c TEXT);
CREATE TABLE two(a INTEGER, b INTEGER, c TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
INSERT INTO one SELECT i, i * 7919 % 12007, printf('number %d of %x', i, i * 31) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
INSERT INTO two SELECT i * 3571 % 12007, i, 'text ' || (i % 100) FROM n;
COMMIT;
CREATE INDEX two_a ON two(a);
CREATE UNIQUE INDEX one_b ON one(b);
SELECT count(*), sum(b), min(c), max(c) FROM one WHERE b BETWEEN 2000 AND 9000;
SELECT count(*) FROM one WHERE c LIKE '%number 7%';
SELECT sum(one.b), count(DISTINCT two.c) FROM one JOIN two ON one.b = two.a WHERE two.b % 3 = 0;
SELECT two.c, count(*), avg(one.a) FROM two JOIN one ON one.a = two.b GROUP BY two.c ORDER BY 2 DESC, 1 LIMIT 10;
BEGIN;
UPDATE one SET c = c || '!' WHERE b % 5 = 0;
UPDATE two SET b = b + 1 WHERE a IN (SELECT a FROM one WHERE b < 3000);
DELETE FROM two WHERE a % 7 = 1;
COMMIT;
SELECT a, b, substr(c, 1, 12) FROM one ORDER BY c DESC LIMIT 5;
WITH RECURSIVE q(i, h) AS (SELECT 0, 1 UNION ALL SELECT i + 1, (h * 31 + coalesce((SELECT b FROM one WHERE a = 1 + h % 12000), 0)) % 1000003
                           FROM q WHERE i < 12000)
SELECT sum(h) FROM q;
PRAGMA integrity_check;
SELECT count(*), total(length(c)), sum(a) FROM two;
"""
SQL_END = """
DROP TABLE one;
DROP TABLE two;
"""

PYTHON = """
import re


class Account:
    def __init__(self, owner):
        self.owner, self.balance, self.history = owner, 0, []

    def deposit(self, amount):
        self.balance += amount
        self.history.append(amount)
        return self


def primes(limit):
    sieve = bytearray([1]) * limit
    for i in range(2, int(limit ** 0.5) + 1):
        if sieve[i]:
            sieve[i * i::i] = bytes(len(range(i * i, limit, i)))
    return sum(sieve) - 2


def collatz(limit):
    best = 0
    for start in range(1, limit):
        n, steps = start, 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        best = max(best, steps)
    return best
"""
PYTHON_MAIN = """

words = re.findall(r"[a-z]+", open("/bench/text", encoding="ascii").read(60000))
count = {}
for word in words:
    count[word] = count.get(word, 0) + 1
accounts = {name: Account(name) for name in count}
for number, word in enumerate(words):
    accounts[word].deposit(number % 97)
print(primes(200000), collatz(2500))
print(sorted(count.items(), key=lambda item: (-item[1], item[0]))[:5])
print(sum(account.balance for account in accounts.values()), max(len(a.history) for a in accounts.values()))
print(sum(int(str(i)[::-1]) for i in range(20000)), 7 ** 2000 % 1000007)
"""


def text(size):
    source = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weights = [2 ** (-i / 5) for i in range(26)]
    vocabulary = ["".join(source.choices(letters, weights, k=source.randint(2, 10))) for _ in range(4000)]
    words, length = [], 0
    while length < size:
        word = vocabulary[int(len(vocabulary) * source.random() ** 3)]
        words.append(word + ("\n" if source.random() < 0.08 else " "))
        length += len(word) + 1
    return "".join(words)[:size].encode()


def c_file(lines):
    """Functions with loops, switches, structs and strings, until there are enough lines."""
    source = random.Random(11)
    out = ["#include <stdint.h>", "#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>", "",
           "struct item {", "    struct item *next;", "    char name[24];", "    uint32_t key, weight;", "    double value;", "};", ""]
    number = 0
    while len(out) < lines - 12:
        a, b, c = (source.randint(3, 97) for _ in range(3))
        kind = number % 4
        if kind == 0:
            out += [f"static uint32_t mix_{number}(const uint32_t *data, unsigned count)", "{",
                    f"    uint32_t hash = {a}u;", "", "    for (unsigned i = 0; i < count; i++) {",
                    f"        hash = hash * {b}u + (data[i] ^ hash >> {c % 31 + 1});",
                    f"        if (hash % {a}u == {c % 3}u)", f"            hash ^= data[(i * {b}u) % count];", "    }",
                    "    return hash;", "}", ""]
        elif kind == 1:
            out += [f"static int choose_{number}(int value, const char *text)", "{", f"    switch (value % {7 + number % 5}) {{"]
            for case in range(6):
                out += [f"    case {case}:", f"        return value * {source.randint(2, 50)} + (int)strlen(text);"]
            out += ["    default:", f"        return text[0] == '{chr(97 + number % 26)}' ? value : -{b};", "    }", "}", ""]
        elif kind == 2:
            out += [f"static struct item *sort_{number}(struct item *list)", "{", "    struct item *sorted = NULL;", "",
                    "    while (list) {", "        struct item *item = list, **at = &sorted;", "", "        list = item->next;",
                    f"        item->weight += item->key % {a}u;", "        while (*at && (*at)->weight < item->weight)",
                    "            at = &(*at)->next;", "        item->next = *at;", "        *at = item;", "    }", "    return sorted;", "}", ""]
        else:
            out += [f"static double sum_{number}(const struct item *item, double *table)", "{", f"    double total = {a}.5;", "",
                    "    for (; item; item = item->next) {", f"        double *cell = &table[item->key % {b}u];", "",
                    f"        *cell = *cell * 0.{c} + item->value;", "        total += *cell > 1.0 ? *cell : item->value / (1.0 + *cell);",
                    "    }", "    return total;", "}", ""]
        number += 1
    out += ["int main(int argc, char **argv)", "{", "    struct item items[8] = {0};", "    uint32_t data[8] = {(uint32_t)argc};",
            "    double table[100] = {0}, total = 0;", "    struct item *list = items;", ""]
    for index in range(number):
        call = [f"total += mix_{index}(data, 8);", f"total += choose_{index}(argc, argv[0]);",
                f"list = sort_{index}(list);", f"total += sum_{index}(list, table);"][index % 4]
        out.append("    " + call)
    out += ["    printf(\"%f\\n\", total);", "    return 0;", "}"]
    return "\n".join(out) + "\n"


def shell_script():
    """Two hundred commands as scripts have them: small programs, pipes, substitutions."""
    group = ["/bin/true", "/bin/echo {n} >/tmp/list.{n}", "/bin/cat /tmp/list.{n}", "x=$(/usr/bin/expr {n} + 1); echo $x",
             "/bin/sed s/{n}/x/ </tmp/list.{n}", "/bin/echo a b c | /usr/bin/cut -d ' ' -f 2", "/usr/bin/basename /a/b/{n}.c .c",
             "/bin/rm /tmp/list.{n}"]
    lines = [line.format(n=n) for n in range(22) for line in group]
    return "\n".join(["set -e", *lines]) + "\necho done\n"


def main():
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    (place / "work.lua").write_text(LUA + LUA_MAIN)
    (place / "work.sql").write_text(SQL)
    (place / "work.py").write_text(PYTHON + PYTHON_MAIN)
    # The same, LONG times in one process.
    (place / "long.lua").write_text(f"{LUA}for _ = 1, {LONG} do\n{LUA_MAIN}end\n")
    (place / "long.sql").write_text((SQL + SQL_END) * LONG)
    (place / "long.py").write_text(f"{PYTHON}\nfor _ in range({LONG}):\n{textwrap.indent(PYTHON_MAIN, '    ')}")
    (place / "long.text").write_bytes(text(LONG << 20))
    (place / "work.sh").write_text(shell_script())
    (place / "work.c").write_text(c_file(2000))
    data = text(1 << 20)
    (place / "text").write_bytes(data)
    (place / "text.gz").write_bytes(gzip.compress(data, 6, mtime=0))


if __name__ == "__main__":
    main()
