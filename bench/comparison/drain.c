/* drain: reads results as fast as they come. libpq logs in (any TLS, any authentication), then its socket is taken over,
 * so that the client's own cost is decrypting and walking message headers.
 *
 *   drain SQL TIMES     connection parameters from libpq's environment
 *
 * Prints "ready", waits for a line on standard input, runs SQL as a simple query TIMES times, prints seconds and the bytes
 * of DataRow bodies. Exit code 1 with a message on any error. */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BUFFER_BYTES = 1 << 18, HEADER_BYTES = 5, ERROR_BYTES = 500 };

static int fd;
static SSL *ssl;

static void die(const char *why) {
  fprintf(stderr, "drain: %s\n", why);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Waits until the socket can do what TLS asked for. */
static void wait_for(int tls_error) {
  struct pollfd p = {.fd = fd, .events = tls_error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};
  if (tls_error != SSL_ERROR_WANT_READ && tls_error != SSL_ERROR_WANT_WRITE) die("TLS failed or the connection was closed");
  poll(&p, 1, -1);
}

static size_t receive(unsigned char *buffer, size_t size) {
  for (;;) {
    int n = SSL_read(ssl, buffer, (int)size);
    if (n > 0) return (size_t)n;
    wait_for(SSL_get_error(ssl, n));
  }
}

static void send_query(const char *sql) {
  size_t text = strlen(sql) + 1, size = HEADER_BYTES + text;
  unsigned char *frame = malloc(size);
  uint32_t length = htonl((uint32_t)text + 4);
  if (!frame) die("out of memory");
  frame[0] = 'Q';
  memcpy(frame + 1, &length, 4);
  memcpy(frame + HEADER_BYTES, sql, text);
  for (;;) {
    int n = SSL_write(ssl, frame, (int)size);
    if (n == (int)size) break; /* without partial writes: all or nothing */
    wait_for(SSL_get_error(ssl, n));
  }
  free(frame);
}

/* Walks messages up to ReadyForQuery; returns the bytes of DataRow bodies. */
static uint64_t drain(void) {
  static unsigned char buffer[BUFFER_BYTES], header[HEADER_BYTES];
  static char error[ERROR_BYTES + 1];
  size_t have = 0, error_bytes = 0;
  uint64_t skip = 0, payload = 0;
  int in_error = 0, last = 0;
  for (;;) {
    size_t n = receive(buffer, sizeof buffer), at = 0;
    while (at < n || (last && !skip)) {
      if (skip) {
        size_t k = n - at < skip ? n - at : (size_t)skip;
        for (size_t i = 0; in_error && i < k && error_bytes < ERROR_BYTES; i++)
          error[error_bytes++] = buffer[at + i] ? (char)buffer[at + i] : ' ';
        at += k;
        skip -= k;
        if (!skip && in_error) die(error);
        continue;
      }
      if (last) return payload;
      header[have++] = buffer[at++];
      if (have < HEADER_BYTES) continue;
      uint32_t length;
      memcpy(&length, header + 1, 4);
      have = 0;
      skip = ntohl(length) - 4;
      if (header[0] == 'D') payload += skip;
      in_error = header[0] == 'E';
      last = header[0] == 'Z';
    }
  }
}

int main(int count, char **arguments) {
  if (count != 3) die("usage: drain SQL TIMES");
  PGconn *connection = PQconnectdb("");
  if (PQstatus(connection) != CONNECTION_OK) die(PQerrorMessage(connection));
  fd = PQsocket(connection);
  ssl = PQsslStruct(connection, "OpenSSL");
  if (!ssl) die("the connection is not inside TLS");
  puts("ready");
  fflush(stdout);
  char line[8];
  if (!fgets(line, sizeof line, stdin)) die("nobody said go");
  uint64_t payload = 0;
  double begin = now();
  for (int left = atoi(arguments[2]); left > 0; left--) {
    send_query(arguments[1]);
    payload += drain();
  }
  printf("%.6f %llu\n", now() - begin, (unsigned long long)payload);
  return 0;
}
