/* SPDX-License-Identifier: Apache-2.0 */
/* X-macro list of mnemonics: included by insn.h and insn_name. No include guard on purpose. */
INSN(ADD)
