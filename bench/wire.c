/* Both ends of the relay under test, in one process and on one clock: the upstream, which speaks as much of
 * Cursor's Cloud Agents API as a chat needs, from bytes made beforehand; and the callers, who check that
 * every delta arrives once and in order. One epoll loop. It prints its upstream port, then takes commands,
 * one a line on its standard input, and answers each with a line of JSON; its end of input is its end.
 *
 *   plan FILE                           what every stream says: [u32 bytes, u32 text, frame, text] ...
 *   run PORT REQUEST KEY STREAMS TIMES MODE INTERVAL RAMP LIMIT
 *
 * REQUEST is a file that holds a whole request, in which "stream-0000" is made unique; KEY stands before each
 * delta's JSON string. Each of STREAMS callers asks TIMES times, one after the other. INTERVAL, RAMP and LIMIT
 * are in microseconds: between deltas, over which the callers begin, and for the whole run. MODE says when
 * the upstream writes its next delta: `flat` when each other stream has had one too, `burst` at once, as
 * many as a write takes, `paced` at each INTERVAL.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096            /* streams */
#define MARK "stream-"

typedef struct { char *data; size_t size, room; } Bytes;

typedef struct Conn {
    int fd, armed;           /* armed: waits until it may write */
    struct Slot *slot;       /* a caller's; of an upstream connection the stream that it carries */
    int caller;
    Bytes in, out;
    struct Conn *next;       /* that is dead */
    size_t head, body;       /* of the request that is coming */
} Conn;

typedef struct Slot {        /* one caller and the stream that answers it */
    int number, left, begun, ended;
    Conn *down, *up;
    double asked, due, *sent;
    size_t sending, got, lags;      /* bytes of `wire` sent; bytes of `text` that came; boundaries that came */
    int record;                     /* next to be sent */
    int headers;                    /* whether the answer's head is over */
    long chunk;                     /* bytes left of the chunk; -1: its size line is due, -2: the end */
    Bytes line;
} Slot;

static int poller, listener;
static Conn stdin_conn, *dead;
static char *wire, *text;                      /* all frames, and all the text that they say */
static size_t *wire_end, *text_end, wire_size, text_size;
static int records;
static Slot slots[MOST];
static int streams, unfinished, failed;
static int port, flat, burst, paced;
static double interval, next_due, deadline, began;
static char key[64], *request, reason[400];
static size_t request_size, mark_at, key_size;
static double *firsts, *lags;
static size_t first_count, lag_count, lag_room;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void die(const char *what) { perror(what); exit(1); }

static void add(Bytes *b, const char *data, size_t size) {
    if (b->size + size > b->room) {
        b->room = (b->size + size) * 2;
        if (!(b->data = realloc(b->data, b->room))) die("realloc");
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void drop(Bytes *b, size_t size) {
    b->size -= size;
    memmove(b->data, b->data + size, b->size);
}

static void arm(Conn *c, int writes) {
    if (c->armed == writes) return;
    struct epoll_event e = {.events = EPOLLIN | (writes ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->armed = writes;
}

static Conn *watch(int fd) {
    Conn *c = calloc(1, sizeof *c);
    int one = 1;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    c->fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    return c;
}

static void hang_up(Conn *c) {
    if (c->slot && c->caller) c->slot->down = NULL;
    if (c->slot && !c->caller && c->slot->up == c) c->slot->up = NULL;
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    c->fd = -1, c->next = dead, dead = c;      /* freed after the batch of events: it may stand there again */
}

static void flush(Conn *c) {
    while (c->out.size) {
        ssize_t n = send(c->fd, c->out.data, c->out.size, MSG_NOSIGNAL);
        if (n < 0) break;
        drop(&c->out, n);
    }
    arm(c, c->out.size > 0);
}

static void say(Conn *c, const char *data, size_t size) {
    add(&c->out, data, size);
    flush(c);
}

/* The upstream ------------------------------------------------------------------------------------------ */

static void advance(Slot *s) {      /* sends what the mode allows */
    Conn *c = s->up;
    while (c && s->record < records) {
        size_t upto = wire_end[s->record];
        if (paced && s->record > 1 && now() < s->due) break;
        if (burst) upto = wire_size;
        ssize_t n = send(c->fd, wire + s->sending, upto - s->sending, MSG_NOSIGNAL);
        if (n < 0) { arm(c, 1); return; }
        s->sending += n;
        double at = now();
        while (s->record < records && s->sending >= wire_end[s->record]) {
            s->sent[s->record++] = at;
            if (paced && s->record > 1) s->due += interval;
        }
        if (flat && s->record > 1) break;
    }
    if (c) arm(c, 0);
    if (c && s->record == records) s->up = NULL, c->slot = NULL;
    if (paced && s->record < records && s->due < next_due) next_due = s->due;
}

static void begin(Conn *c, int number) {
    Slot *s = &slots[number];
    if (number >= streams || s->begun) return;
    s->up = c, c->slot = s, s->begun = 1;
    s->due = now();
    advance(s);
}

static void answer(Conn *c, const char *status, const char *format, int number) {
    char body[256], head[512];
    int size = snprintf(body, sizeof body, format, number, number);
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n%s", status, size, body);
    say(c, head, n);
}

static int number_in(const char *data, size_t size) {
    const char *at = memmem(data, size, MARK, strlen(MARK));
    return at ? atoi(at + strlen(MARK)) : 0;
}

static int names(const char *line, size_t size, const char *word) {
    return memmem(line, size, word, strlen(word)) != NULL;
}

static void serve(Conn *c) {        /* answers the requests in c->in, each when all of it has come */
    while (c->in.size) {
        if (!c->head) {
            add(&c->in, "", 1);
            char *end = strstr(c->in.data, "\r\n\r\n");
            char *length = end ? strcasestr(c->in.data, "\ncontent-length:") : NULL;
            c->in.size--;
            if (!end) return;
            c->head = end + 4 - c->in.data;
            c->body = length && length < end ? atol(length + 16) : 0;
        }
        if (c->in.size < c->head + c->body) return;
        char *line = c->in.data;
        size_t size = strchr(line, '\r') - line, head = c->head + c->body;
        int posts = !strncmp(line, "POST ", 5);
        c->head = 0;
        if (names(line, size, "/stream ")) begin(c, number_in(line, size));
        else if (posts && names(line, size, "/chat")) begin(c, number_in(line, head));
        else if (posts && (names(line, size, "/agents ") || names(line, size, "/runs ")))
            answer(c, "201 Created", "{\"agent\":{\"id\":\"bc\"},\"run\":{\"id\":\"" MARK "%04d\","
                   "\"status\":\"CREATING\"}}", number_in(line, head));
        else if (names(line, size, "/models"))
            answer(c, "200 OK", "{\"items\":[{\"id\":\"bench\",\"displayName\":\"Bench\"}]}", 0);
        else answer(c, "200 OK", "{}", 0);
        drop(&c->in, head);
    }
}

/* The callers ------------------------------------------------------------------------------------------- */

static void ask(Slot *s) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char number[5];
    if (!s->down) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
        s->down = watch(fd);
        s->down->slot = s, s->down->caller = 1;
    }
    s->asked = now();
    s->begun = s->headers = 0;
    s->record = 0, s->sending = s->got = 0, s->lags = 1, s->chunk = -1, s->line.size = 0;
    Bytes *out = &s->down->out;
    add(out, request, request_size);
    snprintf(number, sizeof number, "%04d", s->number);
    memcpy(out->data + out->size - request_size + mark_at, number, 4);
    flush(s->down);
}

static void end(Slot *s, const char *fault) {
    if (fault && !failed++) snprintf(reason, sizeof reason, "%.180s", fault);
    if (fault && s->up) hang_up(s->up);
    if (fault && s->down) hang_up(s->down);
    if (!fault && --s->left) { ask(s); return; }
    s->ended = 1;
    unfinished--;
}

static int hex(const char *at) {
    char digits[5] = {at[0], at[1], at[2], at[3], 0};
    return strtol(digits, NULL, 16);
}

/* Compares a JSON string with what is to come next; returns what of the text it was, -1 if it was not. */
static long same(const char *at, const char *stop, const char *want, const char *want_stop) {
    const char *start = want;
    for (; at < stop && *at != '"'; at++) {
        unsigned char utf8[4] = {*at};
        int size = 1, code;
        if (*at == '\\') switch (*++at) {
            case 'n': *utf8 = '\n'; break;
            case 't': *utf8 = '\t'; break;
            case 'u':
                code = hex(at + 1), at += 4;
                if (code < 0x80) *utf8 = code;
                else if (code < 0x800) utf8[0] = 0xc0 | code >> 6, utf8[1] = 0x80 | (code & 63), size = 2;
                else utf8[0] = 0xe0 | code >> 12, utf8[1] = 0x80 | (code >> 6 & 63),
                     utf8[2] = 0x80 | (code & 63), size = 3;
                break;
            default: *utf8 = *at;
        }
        if (want_stop - want < size || memcmp(want, utf8, size)) return -1;
        want += size;
    }
    return want - start;
}

static const char *take_line(Slot *s, const char *line, size_t size) {
    const char *at = memmem(line, size < 400 ? size : 400, key, key_size);
    if (!at) return memmem(line, size, "\"error\"", 7) ? "an error frame" : NULL;
    at += key_size;
    long n = same(at, line + size, text + s->got, text + text_size);
    if (n < 0) return "a delta that is not the next";
    double at_time = now();
    if (n && !s->got) firsts[first_count++] = at_time - s->asked;
    s->got += n;
    for (; s->lags < (size_t)records - 1 && text_end[s->lags] <= s->got; s->lags++)
        if (lag_count < lag_room) lags[lag_count++] = at_time - s->sent[s->lags];
    return NULL;
}

static const char *take(Slot *s, const char *data, size_t size) {    /* bytes of a body */
    const char *fault = NULL, *nl;
    while (!fault && (nl = memchr(data, '\n', size))) {
        size_t n = nl - data;
        if (s->line.size) {
            add(&s->line, data, n);
            fault = take_line(s, s->line.data, s->line.size);
            s->line.size = 0;
        } else fault = take_line(s, data, n);
        data += n + 1, size -= n + 1;
    }
    if (size) add(&s->line, data, size);
    return fault;
}

static void hear(Conn *c) {         /* what a caller was sent */
    Slot *s = c->slot;
    Bytes *in = &c->in;
    size_t at = 0;
    const char *fault = NULL;
    if (!s->headers) {
        char *head = memmem(in->data, in->size, "\r\n\r\n", 4);
        if (!head) return;
        if (in->size < 12 || memcmp(in->data + 9, "200", 3)) { end(s, in->data); return; }
        s->headers = 1;
        at = head + 4 - in->data;
    }
    while (!fault && at < in->size && s->chunk != -3) {
        if (s->chunk < 0) {
            char *nl = memchr(in->data + at, '\n', in->size - at);
            if (!nl) break;
            if (s->chunk == -2) s->chunk = -3;
            else if (nl - in->data - at > 1 && !(s->chunk = strtol(in->data + at, NULL, 16))) s->chunk = -2;
            at = nl + 1 - in->data;
            continue;
        }
        size_t n = in->size - at < (size_t)s->chunk ? in->size - at : (size_t)s->chunk;
        fault = take(s, in->data + at, n);
        at += n;
        if (!(s->chunk -= n)) s->chunk = -1;
    }
    drop(in, at);
    if (!fault && s->chunk == -3 && s->got < text_size) fault = "an end before the last delta";
    if (fault) end(s, fault);
    else if (s->chunk == -3) end(s, NULL);
}

/* The run ----------------------------------------------------------------------------------------------- */

static int order(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return (x > y) - (x < y);
}

static void print_spread(const char *name, double *values, size_t count) {
    qsort(values, count, sizeof *values, order);
    printf("\"%s\": {\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}, ", name, count ? values[count / 2] : 0,
           count ? values[count * 99 / 100] : 0, count ? values[count - 1] : 0);
}

static void report(void) {
    print_spread("first", firsts, first_count);
    print_spread("lag", lags, lag_count);
    for (char *p = reason; *p; p++) if (*p < ' ' || *p == '"' || *p == '\\') *p = ' ';
    printf("\"failed\": %d, \"done\": %zu, \"wall\": %.1f, \"reason\": \"%s\"}\n",
           failed, first_count, now() - began, reason);
    fflush(stdout);
}

static void plan(const char *path) {
    FILE *f = fopen(path, "rb");
    uint32_t sizes[2];
    Bytes frames = {0}, said = {0};
    if (!f) die(path);
    for (records = 0; fread(sizes, 4, 2, f) == 2; records++) {
        char *data = malloc(sizes[0] + sizes[1] + 1);
        if (fread(data, 1, sizes[0] + sizes[1], f) < sizes[0] + sizes[1]) die(path);
        add(&frames, data, sizes[0]);
        add(&said, data + sizes[0], sizes[1]);
        free(data);
        wire_end = realloc(wire_end, (records + 1) * sizeof *wire_end);
        text_end = realloc(text_end, (records + 1) * sizeof *text_end);
        wire_end[records] = frames.size, text_end[records] = said.size;
    }
    fclose(f);
    free(wire), free(text);
    wire = frames.data, wire_size = frames.size, text = said.data, text_size = said.size;
    printf("{}\n");
    fflush(stdout);
}

static void run(char *command) {
    char path[400], mode[20];
    int times;
    double ramp, limit;
    if (sscanf(command, "%d %399s %63s %d %d %19s %lf %lf %lf", &port, path, key, &streams, &times, mode,
               &interval, &ramp, &limit) != 9 || streams > MOST) { errno = EINVAL; die(command); }
    flat = !strcmp(mode, "flat"), burst = !strcmp(mode, "burst");
    paced = flat || !strcmp(mode, "paced");
    for (char *p = key; *p; p++) if (*p == '~') *p = ' ';
    key_size = strlen(key);
    FILE *f = fopen(path, "rb");
    if (!f) die(path);
    fseek(f, 0, SEEK_END);
    request = realloc(request, request_size = ftell(f));
    rewind(f);
    if (fread(request, 1, request_size, f) < request_size) die(path);
    fclose(f);
    mark_at = (char *)memmem(request, request_size, MARK, strlen(MARK)) + strlen(MARK) - request;
    lag_room = (size_t)streams * times * records;
    lags = realloc(lags, lag_room * sizeof *lags), lag_count = 0;
    firsts = realloc(firsts, (size_t)streams * times * sizeof *firsts), first_count = 0;
    failed = 0, *reason = 0, unfinished = streams;
    began = now(), deadline = began + limit, next_due = 0;
    for (int i = 0; i < streams; i++) {
        Slot *s = &slots[i];
        if (s->down) hang_up(s->down);        /* it may lead to another server */
        s->number = i, s->left = times, s->ended = 0, s->begun = 1, s->record = records;
        s->sent = realloc(s->sent, records * sizeof *s->sent);
        s->due = began + ramp * i / streams;
        s->asked = 0;
    }
}

static void tick(void) {            /* begins what is due, sends what is due, ends what is late */
    double at = now();
    if (at < next_due) return;
    next_due = deadline;
    for (int i = 0; i < streams && unfinished; i++) {
        Slot *s = &slots[i];
        if (s->ended) continue;
        if (at >= deadline) { end(s, "the run's limit"); continue; }
        if (!s->asked && at >= s->due) ask(s);
        else if (paced && s->asked && s->up && s->due <= at) advance(s);
        if ((!s->asked || (paced && s->up)) && s->due < next_due) next_due = s->due;
    }
}

static void command(void) {
    static Bytes in;
    char data[1000], *nl;
    ssize_t n = read(0, data, sizeof data);
    if (n <= 0) exit(0);
    add(&in, data, n);
    while ((nl = memchr(in.data, '\n', in.size))) {
        *nl = 0;
        if (!strncmp(in.data, "plan ", 5)) plan(in.data + 5);
        else run(in.data + 4);
        drop(&in, nl + 1 - in.data);
    }
}

static void on_event(Conn *c, unsigned events) {
    static char data[1 << 18];
    if (c->fd < 0) return;
    if (events & EPOLLOUT) {
        flush(c);
        if (!c->caller && c->slot) advance(c->slot);
    }
    if (c->fd < 0 || !(events & ~EPOLLOUT)) return;
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) add(&c->in, data, n);
    if (n > 0) { if (c->caller) hear(c); else serve(c); return; }
    Slot *s = c->slot;
    int cut = c->caller && !s->ended && s->down == c;
    int idle = cut && !s->headers && s->left && s->asked && !c->in.size;
    hang_up(c);
    if (idle && s->begun == 0 && !s->got) ask(s);     /* a kept connection that the server had closed */
    else if (cut) end(s, "the connection was closed");
}

int main(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    struct epoll_event events[256], e = {.events = EPOLLIN, .data.ptr = &listener};
    poller = epoll_create1(0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 4096)) die("listen");
    getsockname(listener, (struct sockaddr *)&here, &size);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &stdin_conn;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (int reporting = 0;;) {
        double wait = next_due > now() ? (next_due - now()) / 1000 + 1 : 0;
        int n = epoll_wait(poller, events, 256, unfinished ? wait : -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &stdin_conn) command();
            else if (events[i].data.ptr == &listener) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) watch(fd);
            } else on_event(events[i].data.ptr, events[i].events);
        }
        for (Conn *c; (c = dead); free(c)) dead = c->next;
        if (unfinished) tick();
        if (unfinished) reporting = 1;
        else if (reporting) { reporting = 0; putchar('{'); report(); }
    }
}
