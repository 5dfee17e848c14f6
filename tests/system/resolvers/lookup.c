/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup: asks through the C library's own resolver, as a pod's program does. Built twice by the tests, with glibc and
 * statically with musl; both read /etc/resolv.conf. Lines on standard input, one result line for each:
 *   query NAME NUMBER   res_query for a type   ->  "ok HEX" (the response's octets) or "error H_ERRNO"
 *   address NAME        getaddrinfo            ->  "ok ADDRESS ADDRESS ..." or "error TEXT"
 *   name ADDRESS        getnameinfo            ->  "ok NAME" or "error TEXT"
 */
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void query(const char *name, int type)
{
    static unsigned char response[65536];
    int length = res_query(name, ns_c_in, type, response, sizeof response);
    if (length < 0) {
        printf("error %d\n", h_errno);
        return;
    }
    fputs("ok ", stdout);
    for (int i = 0; i < length && i < (int)sizeof response; i++)
        printf("%02x", response[i]);
    putchar('\n');
}

static void address(const char *name)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found, *one;
    int rc = getaddrinfo(name, NULL, &hints, &found);
    if (rc != 0) {
        printf("error %s\n", gai_strerror(rc));
        return;
    }
    fputs("ok", stdout);
    for (one = found; one != NULL; one = one->ai_next) {
        char text[INET6_ADDRSTRLEN];
        const void *octets = one->ai_family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)one->ai_addr)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
        printf(" %s", inet_ntop(one->ai_family, octets, text, sizeof text));
    }
    putchar('\n');
    freeaddrinfo(found);
}

static void name(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int is_v4 = inet_pton(AF_INET, text, &v4.sin_addr) == 1;
    char host[NI_MAXHOST];
    int rc;

    if (!is_v4 && inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) {
        puts("error not an address");
        return;
    }
    rc = is_v4 ? getnameinfo((struct sockaddr *)&v4, sizeof v4, host, sizeof host, NULL, 0, NI_NAMEREQD)
               : getnameinfo((struct sockaddr *)&v6, sizeof v6, host, sizeof host, NULL, 0, NI_NAMEREQD);
    if (rc != 0)
        printf("error %s\n", gai_strerror(rc));
    else
        printf("ok %s\n", host);
}

int main(void)
{
    char line[2048], what[16], argument[1600];
    int type;

    while (fgets(line, sizeof line, stdin) != NULL) {
        int words = sscanf(line, "%15s %1599s %d", what, argument, &type);
        if (words == 3 && strcmp(what, "query") == 0)
            query(argument, type);
        else if (words == 2 && strcmp(what, "address") == 0)
            address(argument);
        else if (words == 2 && strcmp(what, "name") == 0)
            name(argument);
        else {
            fprintf(stderr, "lookup: not understood: %s", line);
            return 2;
        }
    }
    return 0;
}
