/* SPDX-License-Identifier: Apache-2.0 */
/* Which sanitizer this is compiled with, 0 or 1: gcc and clang tell it in different ways. */
#ifndef LODGE_BASE_SANITIZER_H
#define LODGE_BASE_SANITIZER_H

#if defined(__has_feature)
#define SANITIZER_HAS_(name) __has_feature(name)
#else
#define SANITIZER_HAS_(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SANITIZER_HAS_(address_sanitizer)
#define SANITIZER_ADDRESS 1
#else
#define SANITIZER_ADDRESS 0
#endif

#if defined(__SANITIZE_THREAD__) || SANITIZER_HAS_(thread_sanitizer)
#define SANITIZER_THREAD 1
#else
#define SANITIZER_THREAD 0
#endif

/* For a function whose plain accesses race by design: guest memory belongs to all vCPUs at once. */
#if SANITIZER_THREAD
#define RACES_BY_DESIGN __attribute__((no_sanitize("thread")))
#else
#define RACES_BY_DESIGN
#endif

#endif
