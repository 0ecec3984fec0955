/* SPDX-License-Identifier: Apache-2.0 */
/* Networks as JSON files in a locked directory. A file is foreign until it was read whole. */
#include "network/internal.h"

#include "base/file.h"
#include "base/json.h"
#include "base/util.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define STATE_FILE_MAX (4u << 20)
#define STATE_DEFAULT  "/var/lib/lodge/networks"

void network_done(struct network *network)
{
    if (!network)
        return;
    free(network->endpoints);
    free(network->leases);
    *network = (struct network){0};
}

uint64_t process_started(pid_t pid)
{
    CLEANUP(buf_donep) struct buf text;
    char path[64], *at;
    uint64_t value = 0;

    buf_init(&text, 4096);
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (file_load(AT_FDCWD, path, &text, NULL) < 0 || !(at = buf_string(&text)))
        return 0;
    at = strrchr(at, ')'); /* the name may hold anything */
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return 0;
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        value = strtoull(at, NULL, 10);
    return value;
}

/* --- writing --- */

static json_t *port_json(const struct net_forward *port)
{
    json_t *object = json_pack("{s:b, s:I, s:i, s:i}", "udp", (int)port->udp, "host_address",
                               (json_int_t)port->host_address, "host_port", (int)port->host_port,
                               "guest_port", (int)port->guest_port);
    char text[INET6_ADDRSTRLEN];

    if (port->host_is6) {
        inet_ntop(AF_INET6, &port->host_address6, text, sizeof(text));
        json_object_set_new(object, "host_address6", json_string(text));
    }
    return object;
}

static json_t *endpoint_json(const struct network_endpoint *e)
{
    json_t *ports = json_array();
    char mac[18];

    for (unsigned i = 0; i < e->nr_ports; i++)
        json_array_append_new(ports, port_json(&e->ports[i]));
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", e->mac[0], e->mac[1], e->mac[2],
             e->mac[3], e->mac[4], e->mac[5]);
    return json_pack("{s:s, s:s, s:b, s:s, s:I, s:o, s:I, s:I, s:s}", "id", e->id, "interface",
                     e->interface, "tap", (int)e->tap, "mac", mac, "address4",
                     (json_int_t)e->address4, "ports", ports, "owner", (json_int_t)e->owner,
                     "owner_started", (json_int_t)e->owner_started, "lock", e->lock);
}

static json_t *leases_json(const struct network *network)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < network->nr_leases; i++)
        json_array_append_new(array,
                              json_pack("{s:s, s:I}", "id", network->leases[i].id, "address4",
                                        (json_int_t)network->leases[i].address4));
    return array;
}

int state_save(struct network_state *state, const struct network *network, struct err *err)
{
    char prefix[INET6_ADDRSTRLEN], name[NETWORK_NAME_MAX + 8];
    CLEANUP(freep) char *text = NULL;
    json_t *endpoints = json_array(), *document;

    for (unsigned i = 0; i < network->nr_endpoints; i++)
        json_array_append_new(endpoints, endpoint_json(&network->endpoints[i]));
    inet_ntop(AF_INET6, &network->prefix6, prefix, sizeof(prefix));
    document = json_pack("{s:i, s:s, s:s, s:I, s:i, s:s, s:b, s:b, s:i, s:o, s:o}", "version", 1,
                         "name", network->name, "bridge", network->bridge, "subnet4",
                         (json_int_t)network->subnet4.address, "bits4", (int)network->subnet4.bits,
                         "prefix6", prefix, "ipv6", (int)network->has6, "internal",
                         (int)network->internal, "mtu", (int)network->mtu, "endpoints", endpoints,
                         "leases", leases_json(network));
    text = document ? json_dumps(document, JSON_INDENT(1)) : NULL;
    json_decref(document);
    if (!text)
        return err_set(err, -ENOMEM, "write the state of network '%s'", network->name);
    snprintf(name, sizeof(name), "%s.json", network->name);
    return file_replace(state->dir_fd, name, text, strlen(text), 0600, err);
}

/* --- reading --- */

static int copy_text(const struct json_at *at, const char *name, char *to, size_t size,
                     struct err *err)
{
    const char *text = NULL;
    int r = json_get_string(at, name, &text, err);

    if (r < 0)
        return r;
    if (!text[0] || strlen(text) >= size || strpbrk(text, "\"\n\\/ "))
        return err_set(err, -EINVAL, "%s: %s is malformed", at->path, name);
    strcpy(to, text);
    return 0;
}

static int get_number(const struct json_at *at, const char *name, uint64_t least, uint64_t most,
                      uint64_t *ret, struct err *err)
{
    int r = json_get_uint(at, name, ret, err);

    if (r < 0)
        return r;
    return *ret < least || *ret > most
               ? err_set(err, -EINVAL, "%s: %s is out of range", at->path, name)
               : 0;
}

static int load_port(const struct json_at *at, struct net_forward *ret, struct err *err)
{
    const char *address6 = NULL;
    uint64_t address, host, guest;
    int r;

    if ((r = json_opt_string(at, "host_address6", &address6, err)) < 0 ||
        (r = json_get_bool(at, "udp", &ret->udp, err)) < 0 ||
        (r = get_number(at, "host_address", 0, UINT32_MAX, &address, err)) < 0 ||
        (r = get_number(at, "host_port", 1, UINT16_MAX, &host, err)) < 0 ||
        (r = get_number(at, "guest_port", 1, UINT16_MAX, &guest, err)) < 0)
        return r;
    ret->host_address = (uint32_t)address;
    ret->host_port = (uint16_t)host;
    ret->guest_port = (uint16_t)guest;
    ret->host_is6 = address6 != NULL;
    if (address6 && inet_pton(AF_INET6, address6, &ret->host_address6) != 1)
        return err_set(err, -EINVAL, "%s: host_address6 is malformed", at->path);
    return 0;
}

static int load_endpoint(const struct network *network, const struct json_at *at,
                         struct network_endpoint *ret, struct err *err)
{
    uint32_t mask = UINT32_MAX << (32 - network->subnet4.bits);
    uint64_t address, owner;
    struct json_at ports, item;
    const char *mac = NULL, *lock = "";
    int r;

    if ((r = copy_text(at, "id", ret->id, sizeof(ret->id), err)) < 0 ||
        (r = copy_text(at, "interface", ret->interface, sizeof(ret->interface), err)) < 0 ||
        (r = json_get_bool(at, "tap", &ret->tap, err)) < 0 ||
        (r = json_get_string(at, "mac", &mac, err)) < 0 ||
        (r = net_mac_parse(mac, ret->mac, err)) < 0 ||
        (r = get_number(at, "address4", 0, UINT32_MAX, &address, err)) < 0 ||
        (r = get_number(at, "owner", 0, INT32_MAX, &owner, err)) < 0 ||
        (r = json_get_uint(at, "owner_started", &ret->owner_started, err)) < 0 ||
        (r = json_opt_string(at, "lock", &lock, err)) < 0 ||
        (r = json_at_member(at, "ports", &ports, err)) < 0)
        return r;
    ret->address4 = (uint32_t)address;
    ret->owner = (pid_t)owner;
    if (strlen(lock) >= sizeof(ret->lock) || (lock[0] && lock[0] != '/'))
        return err_set(err, -EINVAL, "%s: lock is malformed", at->path);
    strcpy(ret->lock, lock);
    if ((ret->address4 & mask) != network->subnet4.address)
        return err_set(err, -EINVAL, "%s: the address is not of the network", at->path);
    if (json_array_size(ports.value) > NETWORK_PORTS_MAX)
        return err_set(err, -EINVAL, "%s: too many", ports.path);
    for (size_t i = 0; i < json_array_size(ports.value); i++)
        if ((r = json_at_index(&ports, i, &item, err)) < 0 ||
            (r = load_port(&item, &ret->ports[ret->nr_ports++], err)) < 0)
            return r;
    return 0;
}

static int load_endpoints(struct network *network, const struct json_at *root, struct err *err)
{
    struct json_at array, item;
    size_t nr;
    int r = json_at_member(root, "endpoints", &array, err);

    if (r < 0)
        return r;
    nr = json_array_size(array.value);
    if (nr > NETWORK_ENDPOINTS_MAX)
        return err_set(err, -EINVAL, "endpoints: more than %d", NETWORK_ENDPOINTS_MAX);
    /* One more than there are: the next to be attached. */
    network->endpoints = calloc(nr + 1, sizeof(*network->endpoints));
    if (!network->endpoints)
        return err_set(err, -ENOMEM, "out of memory");
    for (size_t i = 0; i < nr; i++)
        if ((r = json_at_index(&array, i, &item, err)) < 0 ||
            (r = load_endpoint(network, &item, &network->endpoints[network->nr_endpoints++], err)) <
                0)
            return r;
    return 0;
}

/* Files of an earlier version have none. */
static int load_leases(struct network *network, const struct json_at *root, struct err *err)
{
    char id[NETWORK_ID_MAX];
    struct json_at array, item;
    uint64_t address;
    int r = json_at_member(root, "leases", &array, err);

    if (r < 0 || !array.value)
        return r;
    if (json_array_size(array.value) > NETWORK_LEASES_MAX)
        return err_set(err, -EINVAL, "leases: more than %d", NETWORK_LEASES_MAX);
    for (size_t i = 0; i < json_array_size(array.value); i++)
        if ((r = json_at_index(&array, i, &item, err)) < 0 ||
            (r = copy_text(&item, "id", id, sizeof(id), err)) < 0 ||
            (r = get_number(&item, "address4", 1, UINT32_MAX, &address, err)) < 0 ||
            (r = lease_put(network, id, (uint32_t)address)) < 0)
            return r;
    return 0;
}

static int load(const struct json_at *root, struct network *network, struct err *err)
{
    uint64_t version, address, bits, mtu;
    const char *prefix = NULL;
    int r;

    if ((r = get_number(root, "version", 1, 1, &version, err)) < 0 ||
        (r = copy_text(root, "name", network->name, sizeof(network->name), err)) < 0 ||
        (r = copy_text(root, "bridge", network->bridge, sizeof(network->bridge), err)) < 0 ||
        (r = get_number(root, "subnet4", 1 << 24, UINT32_MAX, &address, err)) < 0 ||
        (r = get_number(root, "bits4", 8, 29, &bits, err)) < 0 ||
        (r = json_get_string(root, "prefix6", &prefix, err)) < 0 ||
        (r = json_get_bool(root, "ipv6", &network->has6, err)) < 0 ||
        (r = json_get_bool(root, "internal", &network->internal, err)) < 0 ||
        (r = get_number(root, "mtu", 1280, 65535, &mtu, err)) < 0)
        return r;
    if (!network_name_ok(network->name) || inet_pton(AF_INET6, prefix, &network->prefix6) != 1)
        return err_set(err, -EINVAL, "a malformed name or prefix");
    network->subnet4 = (struct network_subnet4){(uint32_t)address, (unsigned)bits};
    network->mtu = (unsigned)mtu;
    r = load_endpoints(network, root, err);
    return r < 0 ? r : load_leases(network, root, err);
}

int state_load_one(const char *text, size_t length, struct network *ret, struct err *err)
{
    struct network network = {0};
    struct json_at root;
    json_t *document;
    int r = json_parse(text, length, "network", &document, err);

    if (r < 0)
        return r;
    json_at_root(document, &root);
    r = load(&root, &network, err);
    json_decref(document);
    if (r < 0) {
        network_done(&network);
        return r;
    }
    *ret = network;
    return 0;
}

static int load_file(struct network_state *state, const char *name, struct err *err)
{
    CLEANUP(buf_donep) struct buf text;
    struct network *network = &state->networks[state->nr];
    int r;

    buf_init(&text, STATE_FILE_MAX);
    if ((r = file_load(state->dir_fd, name, &text, err)) < 0)
        return r;
    r = state_load_one(text.data ? text.data : "", text.length, network, err);
    if (r == 0 && (strncmp(network->name, name, strlen(network->name)) != 0 ||
                   strcmp(name + strlen(network->name), ".json") != 0)) {
        network_done(network);
        r = err_set(err, -EINVAL, "the file is of another network");
    }
    if (r < 0)
        return err_wrap(err, "'%s/%s'", state->dir, name);
    state->nr++;
    return 0;
}

static int load_all(struct network_state *state, struct err *err)
{
    int fd = openat(state->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir_closep) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int r = 0;

    if (!dir)
        return err_errno(err, -errno, "read '%s'", state->dir);
    while (r == 0 && (entry = readdir(dir))) {
        size_t length = strlen(entry->d_name);

        if (entry->d_name[0] == '.' || length < 6 ||
            strcmp(entry->d_name + length - 5, ".json") != 0)
            continue;
        if (state->nr == NETWORK_MAX)
            return err_set(err, -E2BIG, "more than %d networks in '%s'", NETWORK_MAX, state->dir);
        r = load_file(state, entry->d_name, err);
    }
    return r;
}

bool lock_is_held(const char *path)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

static bool is_owned(const struct network_endpoint *e)
{
    if (e->lock[0])
        return lock_is_held(e->lock);
    return !e->owner || process_started(e->owner) == e->owner_started;
}

/* Those whose owner is gone. */
static int sweep(struct network_state *state, struct err *err)
{
    bool changed = false;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < state->nr; i++) {
        struct network *n = &state->networks[i];
        unsigned kept = 0;

        for (unsigned j = 0; j < n->nr_endpoints; j++) {
            struct network_endpoint *e = &n->endpoints[j];

            if (!is_owned(e))
                links_remove(e->interface);
            else if (kept++ != j)
                n->endpoints[kept - 1] = *e;
        }
        if (kept == n->nr_endpoints)
            continue;
        n->nr_endpoints = kept;
        changed = true;
        r = state_save(state, n, err);
    }
    return changed && r == 0 ? rules_apply(state->networks, state->nr, err) : r;
}

static int make_path(const char *path)
{
    char copy[PATH_MAX];

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return -ENAMETOOLONG;
    for (char *c = strchr(copy + 1, '/'); c; c = strchr(c + 1, '/')) {
        *c = '\0';
        if (mkdir(copy, 0755) && errno != EEXIST)
            return -errno;
        *c = '/';
    }
    return mkdir(copy, 0755) && errno != EEXIST ? -errno : 0;
}

static int open_dir(struct network_state *state, bool read_only, struct err *err)
{
    int r;

    if (!read_only && (r = make_path(state->dir)) < 0)
        return err_errno(err, r, "make '%s'", state->dir);
    state->dir_fd = open(state->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state->dir_fd < 0)
        return read_only && errno == ENOENT ? 0 : err_errno(err, -errno, "open '%s'", state->dir);
    state->lock_fd = openat(state->dir_fd, ".lock",
                            read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (state->lock_fd < 0)
        return read_only ? 0 : err_errno(err, -errno, "lock '%s'", state->dir);
    while (flock(state->lock_fd, read_only ? LOCK_SH : LOCK_EX))
        if (errno != EINTR)
            return err_errno(err, -errno, "lock '%s'", state->dir);
    return 0;
}

const char *network_directory(void)
{
    const char *given = getenv("LODGE_NETWORKS");

    return given && given[0] ? given : STATE_DEFAULT;
}

int network_state_open(const char *dir, bool read_only, struct network_state *ret, struct err *err)
{
    int r;

    *ret = (struct network_state){.dir_fd = -1, .lock_fd = -1};
    snprintf(ret->dir, sizeof(ret->dir), "%s", dir ?: network_directory());
    ret->networks = calloc(NETWORK_MAX, sizeof(*ret->networks));
    r = ret->networks ? open_dir(ret, read_only, err) : err_set(err, -ENOMEM, "out of memory");
    if (r == 0 && ret->dir_fd >= 0)
        r = load_all(ret, err);
    if (r == 0 && !read_only)
        r = sweep(ret, err);
    if (r < 0)
        network_state_close(ret);
    return r;
}

void network_state_close(struct network_state *state)
{
    for (unsigned i = 0; i < state->nr; i++)
        network_done(&state->networks[i]);
    free(state->networks);
    fd_closep(&state->lock_fd);
    fd_closep(&state->dir_fd);
    *state = (struct network_state){.dir_fd = -1, .lock_fd = -1};
}

struct network *network_find(struct network_state *state, const char *name)
{
    for (unsigned i = 0; i < state->nr; i++)
        if (!strcmp(state->networks[i].name, name))
            return &state->networks[i];
    return NULL;
}
