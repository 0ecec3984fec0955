/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who we are and whom we believe: read once, at the start. Certificates that are out of their time
 * are found out in each handshake, ours at the other end.
 */
#include "tls/internal.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PEM_MAX (1u << 20)
/* One version, and no resumption: each session has its certificates shown. */
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static int load_pem(const char *what, const char *path, struct buf *ret, struct err *err)
{
    int result;

    buf_init(ret, PEM_MAX);
    if (!path || !*path)
        return err_set(err, -EINVAL, "TLS needs a file with the %s", what);
    if ((result = file_load(AT_FDCWD, path, ret, err)) < 0)
        return err_wrap(err, "%s", what), result;
    return 0;
}

static gnutls_datum_t datum(const struct buf *text)
{
    return (gnutls_datum_t){(unsigned char *)text->data, (unsigned)text->length};
}

static int check_key_mode(const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_errno(err, -errno, "key '%s'", path);
    if (st.st_mode & 0007)
        return err_set(err, -EPERM, "everybody may read the key '%s': chmod o= it first", path);
    return 0;
}

static int load_authority(struct tls_identity *identity, const char *path, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    gnutls_datum_t pem;
    int result = load_pem("authority's certificate", path, &text, err);

    if (result < 0)
        return result;
    pem = datum(&text);
    result = gnutls_certificate_set_x509_trust_mem(identity->credentials, &pem,
                                                   GNUTLS_X509_FMT_PEM);
    if (result <= 0)
        return err_set(err, -EINVAL, "'%s' has no certificate in PEM form%s%s", path,
                       result < 0 ? ": " : "", result < 0 ? gnutls_strerror(result) : "");
    return 0;
}

static int load_own(struct tls_identity *identity, const struct tls_files *files, struct err *err)
{
    CLEANUP(buf_donep) struct buf certificate;
    CLEANUP(buf_donep) struct buf key;
    gnutls_datum_t certificate_pem, key_pem;
    int result;

    buf_init(&key, PEM_MAX);
    if ((result = load_pem("certificate", files->certificate, &certificate, err)) < 0 ||
        (result = load_pem("key", files->key, &key, err)) < 0 ||
        (result = check_key_mode(files->key, err)) < 0)
        return result;
    certificate_pem = datum(&certificate);
    key_pem = datum(&key);
    result = gnutls_certificate_set_x509_key_mem(identity->credentials, &certificate_pem, &key_pem,
                                                 GNUTLS_X509_FMT_PEM);
    explicit_bzero(key.data, key.length);
    if (result < 0)
        return err_set(err, -EINVAL, "certificate '%s' with key '%s': %s", files->certificate,
                       files->key, gnutls_strerror(result));
    if ((result = gnutls_x509_crt_import(identity->own, &certificate_pem, GNUTLS_X509_FMT_PEM)) < 0)
        return err_set(err, -EINVAL, "certificate '%s': %s", files->certificate,
                       gnutls_strerror(result));
    return 0;
}

int tls_identity_load(const struct tls_files *files, enum tls_role role, struct tls_identity **ret,
                      struct err *err)
{
    struct tls_identity *identity = calloc(1, sizeof(*identity));
    int result;

    if (!identity)
        return err_set(err, -ENOMEM, "out of memory");
    identity->role = role;
    if (gnutls_certificate_allocate_credentials(&identity->credentials) < 0 ||
        gnutls_priority_init(&identity->priority, PRIORITY, NULL) < 0 ||
        gnutls_x509_crt_init(&identity->own) < 0)
        result = err_set(err, -ENOMEM, "set up TLS");
    else if ((result = load_authority(identity, files->ca, err)) == 0)
        result = load_own(identity, files, err);
    if (result < 0) {
        tls_identity_free(identity);
        return result;
    }
    *ret = identity;
    return 0;
}

void tls_identity_free(struct tls_identity *identity)
{
    if (!identity)
        return;
    if (identity->own)
        gnutls_x509_crt_deinit(identity->own);
    if (identity->priority)
        gnutls_priority_deinit(identity->priority);
    if (identity->credentials)
        gnutls_certificate_free_credentials(identity->credentials);
    free(identity);
}

bool tls_identity_names(const struct tls_identity *identity, const char *host)
{
    return gnutls_x509_crt_check_hostname(identity->own, host) != 0;
}
