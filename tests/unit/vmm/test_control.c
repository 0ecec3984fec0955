/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/control.h"

#include "testing.h"
#include "vmm_control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int answer(void *context, const char *command, const json_t *request, json_t **ret,
                  struct err *err)
{
    (void)context;
    (void)request;
    if (!strcmp(command, "echo")) {
        *ret = json_pack("{s:s}", "heard", command);
        return 0;
    }
    return err_set(err, -EINVAL, "unknown command '%s'", command);
}

struct setup {
    struct loop *loop;
    struct control *control;
    char path[64];
};

static void setup_make(struct setup *s)
{
    struct err err = ERR_INIT;

    snprintf(s->path, sizeof(s->path), "/tmp/lodge-test-control-%d", (int)getpid());
    ck_assert_int_eq(loop_new(&s->loop, &err), 0);
    ck_assert_msg(control_new(s->loop, s->path, answer, NULL, &s->control, &err) == 0, "%s",
                  err.message);
}

static void setup_done(struct setup *s)
{
    control_free(s->control);
    loop_free(s->loop);
    ck_assert_int_ne(access(s->path, F_OK), 0);
}

static int dial(const struct setup *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(address.sun_path, s->path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Sends text and returns what came back within some rounds of the loop. */
static const char *talk(struct setup *s, int fd, const char *text)
{
    static char reply[8192];
    size_t length = 0;

    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
    for (int i = 0; i < 10; i++) {
        ssize_t n;

        loop_run_once(s->loop, 10);
        n = recv(fd, reply + length, sizeof(reply) - 1 - length, MSG_DONTWAIT);
        if (n > 0)
            length += (size_t)n;
    }
    reply[length] = '\0';
    return reply;
}

START_TEST(requests_are_answered_in_order_with_their_id)
{
    struct setup s;
    int fd;

    setup_make(&s);
    fd = dial(&s);
    ck_assert_str_eq(talk(&s, fd,
                          "{\"id\": 1, \"command\": \"echo\"}\n{\"id\": [2], \"command\": \"x\"}\n"
                          "nonsense\n{\"id\": 3}\n{\"command\": \"ec"),
                     "{\"id\":1,\"ok\":true,\"result\":{\"heard\":\"echo\"}}\n"
                     "{\"id\":[2],\"ok\":false,\"error\":\"unknown command 'x'\"}\n"
                     "{\"id\":null,\"ok\":false,\"error\":\"not a JSON object\"}\n"
                     "{\"id\":3,\"ok\":false,\"error\":\"command: a string is needed\"}\n");
    ck_assert_str_eq(talk(&s, fd, "ho\"}\n"),
                     "{\"id\":null,\"ok\":true,\"result\":{\"heard\":\"echo\"}}\n");
    close(fd);
    setup_done(&s);
}
END_TEST

START_TEST(an_endless_line_closes_the_connection)
{
    static char text[VMM_CONTROL_LINE_MAX + 100];
    struct setup s;
    char byte;
    int fd;

    setup_make(&s);
    fd = dial(&s);
    memset(text, 'a', sizeof(text) - 1);
    for (size_t sent = 0; sent < sizeof(text) - 1;) {
        ssize_t n = send(fd, text + sent, sizeof(text) - 1 - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EPIPE)
            break;
        if (n > 0)
            sent += (size_t)n;
        loop_run_once(s.loop, 10);
    }
    for (int i = 0; i < 40; i++)
        loop_run_once(s.loop, 5);
    ck_assert(recv(fd, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    close(fd);
    setup_done(&s);
}
END_TEST

START_TEST(a_dead_socket_is_replaced_and_a_live_one_is_not)
{
    struct control *other = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct err err = ERR_INIT;
    struct setup s;
    int fd;

    setup_make(&s);
    ck_assert_int_eq(control_new(s.loop, s.path, answer, NULL, &other, &err), -EADDRINUSE);
    setup_done(&s);

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(address.sun_path, s.path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    setup_make(&s);
    close(dial(&s));
    setup_done(&s);
}
END_TEST

START_TEST(more_connections_than_the_limit_are_refused)
{
    int fds[VMM_CONTROL_CONNECTIONS_MAX + 1];
    struct setup s;

    setup_make(&s);
    for (int i = 0; i <= VMM_CONTROL_CONNECTIONS_MAX; i++) {
        fds[i] = dial(&s);
        loop_run_once(s.loop, 10);
    }
    ck_assert_str_ne(talk(&s, fds[0], "{\"command\": \"echo\"}\n"), "");
    ck_assert_int_eq(send(fds[VMM_CONTROL_CONNECTIONS_MAX], "x", 1, MSG_NOSIGNAL), -1);
    for (int i = 0; i <= VMM_CONTROL_CONNECTIONS_MAX; i++)
        close(fds[i]);
    setup_done(&s);
}
END_TEST

/* Two that were accepted and two that wait for that; of each, one has asked. */
START_TEST(the_end_resets_nobody)
{
    static const char request[] = "{\"command\": \"echo\"}\n";
    struct setup s;
    char byte;
    int fds[4];

    setup_make(&s);
    for (int i = 0; i < 4; i++) {
        fds[i] = dial(&s);
        if (i < 2)
            loop_run_once(s.loop, 1000);
        if (i % 2)
            ck_assert_int_eq(send(fds[i], request, strlen(request), MSG_NOSIGNAL),
                             (int)strlen(request));
    }
    setup_done(&s);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(recv(fds[i], &byte, 1, MSG_DONTWAIT), 0);
        close(fds[i]);
    }
}
END_TEST

TEST_MAIN("vmm_control", tcase_add_test(tcase, requests_are_answered_in_order_with_their_id);
          tcase_add_test(tcase, an_endless_line_closes_the_connection);
          tcase_add_test(tcase, a_dead_socket_is_replaced_and_a_live_one_is_not);
          tcase_add_test(tcase, more_connections_than_the_limit_are_refused);
          tcase_add_test(tcase, the_end_resets_nobody))
