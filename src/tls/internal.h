/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef LODGE_TLS_INTERNAL_H
#define LODGE_TLS_INTERNAL_H

#include "tls/tls.h"

#include <gnutls/gnutls.h>

struct tls_identity {
    enum tls_role role;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    gnutls_x509_crt_t own;
};

#endif
