/* test_serve.c - tacit serve and tacit_server: the vectors of tacit extract, whoever asks, in
 * whatever company, and however the others behave. */
#include "histogram.h"
#include "npy.h"
#include "program.h"
#include "scene.h"
#include "tacit.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define USABLE 6u
#define INPUTS (USABLE + SCENE_BAD)
#define DIM    64u

/* What tacit extract makes of the images: what every answer is held against. */
static struct known {
    char path[64], status[24];
    float vector[DIM];
} known[INPUTS];

static void read_known(void)
{
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images images --out out"), 0);
    static char text[8192];
    slurp("out/index.tsv", text, sizeof text);
    tacit_npy npy;
    const void *rows;
    tacit_err err;
    ck_assert_int_eq(tacit_npy_open(&npy, "out/embeddings.npy", &err), TACIT_OK);
    ck_assert_int_eq(tacit_npy_map(&npy, "out/embeddings.npy", &rows, &err), TACIT_OK);
    char *save = NULL, *line = strtok_r(text, "\n", &save);
    unsigned n = 0;
    for (; (line = strtok_r(NULL, "\n", &save)); n++) {
        ck_assert_uint_lt(n, INPUTS);
        char *row = strsep(&line, "\t"), *path = strsep(&line, "\t");
        strsep(&line, "\t");
        snprintf(known[n].path, sizeof known[n].path, "images/%.50s", path);
        snprintf(known[n].status, sizeof known[n].status, "%.20s", strsep(&line, "\t"));
        if (*row)
            memcpy(known[n].vector, (const float *)rows + DIM * strtoul(row, NULL, 10),
                   sizeof known[n].vector);
    }
    ck_assert_uint_eq(n, INPUTS);
    tacit_npy_close(&npy);
}

static void setup(void)
{
    scratch_open();
    ck_assert_int_eq(chdir(scratch_folder), 0);
    scene_weights("w.safetensors", &scene_vit, 7, NULL, 0);
    scene_images("images", USABLE);
    read_known();
    signal(SIGPIPE, SIG_IGN);
}

static void teardown(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    scratch_close();
}

static bool usable(const struct known *k)
{
    return !strcmp(k->status, "ok");
}

static const struct known *usable_at(unsigned i)
{
    unsigned n = 0;
    for (unsigned k = 0;; k = (k + 1) % INPUTS)
        if (usable(&known[k]) && n++ == i)
            return &known[k];
}

/* An answer is k's; path: as it must be told, NULL for null. */
static void expect(const char *line, const char *path, const struct known *k)
{
    json_t *answer = json_loads(line, 0, NULL);
    ck_assert_msg(answer != NULL, "no JSON: %s", line);
    const char *told = json_string_value(json_object_get(answer, "path"));
    ck_assert_msg(path ? told && !strcmp(told, path)
                       : json_is_null(json_object_get(answer, "path")),
                  "not of %s: %.300s", path ? path : "null", line);
    json_t *vector = json_object_get(answer, "vector");
    if (usable(k)) {
        ck_assert_msg(json_array_size(vector) == DIM, "%.300s", line);
        for (unsigned i = 0; i < DIM; i++) {
            float value = (float)json_number_value(json_array_get(vector, i));
            ck_assert_msg(!memcmp(&value, &k->vector[i], sizeof value), "%s: %u: %.9g, not %.9g",
                          k->path, i, (double)value, (double)k->vector[i]);
        }
    } else {
        const char *status = json_string_value(json_object_get(answer, "status"));
        ck_assert_msg(!vector && status && !strcmp(status, k->status), "%s: %.300s", k->status,
                      line);
        ck_assert_ptr_nonnull(json_string_value(json_object_get(answer, "error")));
    }
    json_decref(answer);
}

/* An answer that is an error, with this word and text. */
static void expect_error(const char *line, const char *status, const char *text)
{
    char word[64];
    snprintf(word, sizeof word, "\"status\":\"%s\"", status);
    ck_assert_msg(strstr(line, word) && strstr(line, text), "no %s, %s: %.300s", status, text,
                  line);
}

/* A number of the last line of --json. */
static double told(const char *text, const char *key)
{
    const char *last = strrchr(text, '{');
    while (last > text && last[-1] != '\n')
        last--;
    json_t *report = json_loads(last, 0, NULL);
    ck_assert_msg(report && json_is_number(json_object_get(report, key)), "%s: %s", key, text);
    double value = json_number_value(json_object_get(report, key));
    json_decref(report);
    return value;
}

/* Streams ------------------------------------------------------------------------------------- */

#define SERVE "serve --weights w.safetensors "

/* Serves `in` as a stream; gives the exit status. Answers are in out_text. */
static int serve_stream(const char *options, const void *in, size_t size)
{
    char arguments[256];
    file_put("in.txt", in, size);
    snprintf(arguments, sizeof arguments, SERVE "--json %s <in.txt", options);
    return run("", arguments);
}

/* The next line of *at, ended by a zero; NULL at the end. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (!end)
        return NULL;
    *end = 0;
    *at = end + 1;
    return line;
}

START_TEST(vectors_have_the_bits_of_extract)
{
    char in[4096] = "";
    for (unsigned i = 0; i < 2 * INPUTS; i++)
        sprintf(in + strlen(in), "%s\n", known[i % INPUTS].path);
    static const char *const ways[] = { "", "--batch 1 --threads 1", "--batch 3 --threads 2",
                                        "--batch 16 --queue 3 --threads 3", "--queue 1" };
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        ck_assert_int_eq(serve_stream(ways[w], in, strlen(in)), 0);
        char *at = out_text;
        for (unsigned i = 0; i < 2 * INPUTS; i++)
            expect(next_line(&at), known[i % INPUTS].path, &known[i % INPUTS]);
        ck_assert_ptr_null(next_line(&at));
        ck_assert_double_eq(told(err_text, "count"), 2 * USABLE);
        ck_assert_double_eq(told(err_text, "errors"), 2 * SCENE_BAD);
        ck_assert_double_gt(told(err_text, "p50_s"), 0);
        ck_assert_double_ge(told(err_text, "p99_s"), told(err_text, "p50_s"));
        ck_assert_double_ge(told(err_text, "max_s"), told(err_text, "p999_s"));
    }
}
END_TEST

/* All patches of an image, as extract writes them. */
START_TEST(options_are_those_of_extract)
{
    static const char options[] = "--features patch --size 40 --normalize --filter lanczos";
    char arguments[256], in[128];
    snprintf(arguments, sizeof arguments,
             "extract --weights w.safetensors --images images --out patches %s", options);
    ck_assert_int_eq(run("", arguments), 0);
    tacit_npy npy;
    const void *rows;
    tacit_err err;
    ck_assert_int_eq(tacit_npy_open(&npy, "patches/embeddings.npy", &err), TACIT_OK);
    ck_assert_int_eq(tacit_npy_map(&npy, "patches/embeddings.npy", &rows, &err), TACIT_OK);
    ck_assert_uint_eq(serve_stream(options, in, (size_t)sprintf(in, "%s\n", usable_at(0)->path)),
                      0);
    json_t *answer = json_loads(out_text, 0, NULL), *vector = json_object_get(answer, "vector");
    ck_assert_uint_eq(json_array_size(vector), 25 * DIM);
    for (unsigned i = 0; i < 25 * DIM; i++) {
        float value = (float)json_number_value(json_array_get(vector, i));
        ck_assert_mem_eq(&value, (const float *)rows + i, sizeof value);
    }
    json_decref(answer);
    tacit_npy_close(&npy);
}
END_TEST

static size_t put_line(char *to, const char *line)
{
    size_t n = strlen(line);
    memcpy(to, line, n);
    to[n] = '\n';
    return n + 1;
}

/* `bytes N` and the file. */
static size_t put_image(char *to, const char *path)
{
    size_t size, head;
    unsigned char *bytes = file_get(path, &size);
    head = (size_t)sprintf(to, "bytes %zu\n", size);
    memcpy(to + head, bytes, size);
    free(bytes);
    return head + size;
}

START_TEST(bytes_and_paths)
{
    static char in[1 << 17];
    const struct known *a = usable_at(0), *b = usable_at(1);
    size_t size;
    unsigned char *png = file_get(a->path, &size);
    file_put("bytes 12", png, size);
    file_put("bytes", png, size);
    free(png);
    size = put_image(in, a->path);
    size += put_line(in + size, b->path);
    size += put_image(in + size, b->path);
    size += put_image(in + size, "images/a/005 cut.png");
    size += put_line(in + size, "bytes 0");
    size += put_line(in + size, "./bytes 12");
    size += put_line(in + size, "./bytes");
    size += put_line(in + size, "bytes 0\r");
    size += put_image(in + size, a->path);
    size += (size_t)sprintf(in + size, "%s", b->path); /* no end of line */
    for (int way = 0; way < 2; way++) {
        ck_assert_int_eq(serve_stream(way ? "--queue 1" : "", in, size), 0);
        char *at = out_text;
        expect(next_line(&at), NULL, a);
        expect(next_line(&at), b->path, b);
        expect(next_line(&at), NULL, b);
        expect_error(next_line(&at), "malformed", "\"path\":null");
        expect_error(next_line(&at), "malformed", "not a JPEG or PNG");
        expect(next_line(&at), "./bytes 12", a);
        expect(next_line(&at), "./bytes", a);
        expect_error(next_line(&at), "malformed", "not a JPEG or PNG");
        expect(next_line(&at), NULL, a);
        expect(next_line(&at), b->path, b);
        ck_assert_ptr_null(next_line(&at));
    }
}
END_TEST

/* Lines that are no path, and images that are too large, cost their answer and nothing else. */
START_TEST(strange_requests)
{
    const struct known *a = usable_at(0);
    size_t huge = ((size_t)32 << 20) + 1, size = 0;
    char *in = malloc(huge + 65536), name[5000];
    memset(name, 'n', sizeof name);
    size += put_line(in + size, "");
    size += put_line(in + size, "\r");
    memcpy(in + size, "images/a/000.png\0.png\n", 22);
    size += 22;
    size += (size_t)sprintf(in + size, "%.4095s\n", name);
    size += (size_t)sprintf(in + size, "%.4095s\r\n", name);
    size += (size_t)sprintf(in + size, "%.4096s\n", name);
    size += (size_t)sprintf(in + size, "%.5000s%.5000s%.5000s%.5000s\n", name, name, name, name);
    size += put_line(in + size, "caf\xe9 \"\x01\\.jpg");
    size += (size_t)sprintf(in + size, "bytes %zu\n", huge);
    memset(in + size, '\n', huge);
    size += huge;
    size += (size_t)sprintf(in + size, "%s\r\n", a->path);
    size += put_line(in + size, "images");
    size += put_line(in + size, a->path);
    for (int way = 0; way < 2; way++) {
        ck_assert_int_eq(serve_stream(way ? "--queue 1" : "", in, size), 0);
        char *at = out_text;
        expect_error(next_line(&at), "invalid", "an empty line");
        expect_error(next_line(&at), "invalid", "an empty line");
        expect_error(next_line(&at), "invalid", "zero byte");
        expect_error(next_line(&at), "unreadable", "{\"path\":\"nnnn");
        expect_error(next_line(&at), "unreadable", "{\"path\":\"nnnn");
        expect_error(next_line(&at), "too-large", "a line of more than 4095 bytes");
        expect_error(next_line(&at), "too-large", "a line of more than 4095 bytes");
        expect_error(next_line(&at), "unreadable",
                     "{\"path\":\"caf\xef\xbf\xbd \\\"\\u0001\\\\.jpg\"");
        expect_error(next_line(&at), "too-large", "send its path");
        expect(next_line(&at), a->path, a);
        expect_error(next_line(&at), "unsupported", "{\"path\":\"images\"");
        expect(next_line(&at), a->path, a);
        ck_assert_ptr_null(next_line(&at));
    }
    free(in);
}
END_TEST

/* A framing that makes no sense: what came before is answered, it is told, nothing more is read. */
START_TEST(framing_that_is_lost)
{
    static const char *const lines[] = { "bytes",
                                         "bytes ",
                                         "bytes -1",
                                         "bytes 1x",
                                         "bytes 0x10",
                                         "bytes  5",
                                         "bytes 9999999999999999999" };
    const struct known *a = usable_at(0);
    char in[512];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        size_t size = (size_t)sprintf(in, "%s\n%s\n%s\n", a->path, lines[i], a->path);
        ck_assert_int_eq(serve_stream("", in, size), 1);
        char *at = out_text;
        expect(next_line(&at), a->path, a);
        expect_error(next_line(&at), "malformed", "no count");
        ck_assert_ptr_null(next_line(&at));
        ck_assert_ptr_nonnull(strstr(err_text, "\ntacit serve: 'bytes' is followed by no count"));
    }
    size_t size = put_line(in, a->path);
    size += (size_t)sprintf(in + size, "bytes 100\nabc");
    ck_assert_int_eq(serve_stream("", in, size), 0);
    char *at = out_text;
    expect(next_line(&at), a->path, a);
    expect_error(next_line(&at), "malformed", "ends within an image's bytes");
    ck_assert_ptr_null(next_line(&at));
    ck_assert_int_eq(serve_stream("", "", 0), 0);
    ck_assert_str_eq(out_text, "");
}
END_TEST

START_TEST(wrong_usage_and_places)
{
    static const char *const table[][2] = {
        { "serve", "required: 'weights'" },
        { SERVE "--batch 0", "--batch '0'" },
        { SERVE "--batch 257", "--batch '257'" },
        { SERVE "--queue 0", "--queue '0'" },
        { SERVE "--clients x", "--clients 'x'" },
        { SERVE "--threads 0", "--threads '0'" },
        { SERVE "--features cl", "--features 'cl': use one of" },
        { SERVE "--size 33", "no multiple of the patch size 8" },
        { SERVE "--precision int9", "--precision 'int9'" },
        { SERVE "a.jpg", "unexpected argument 'a.jpg'" },
        { SERVE "--images images", "unknown option '--images'" },
        { SERVE "--socket ''", "has 1 to 107 bytes" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        fails(2, "", table[i][0], table[i][1]);
    char arguments[256], name[200];
    memset(name, 's', sizeof name);
    snprintf(arguments, sizeof arguments, SERVE "--socket %.108s", name);
    fails(2, "", arguments, "has 1 to 107 bytes");
    fails(1, "", "serve --weights nowhere", "nowhere");
    fails(1, "", SERVE "--socket nowhere/s", "nowhere/s: No such file");
    fails(1, "", SERVE "--socket images", "images: is there and is no socket");
    file_put("precious", "data", 4);
    fails(1, "", SERVE "--socket precious", "precious: is there and is no socket");
    size_t size;
    unsigned char *bytes = file_get("precious", &size);
    ck_assert_uint_eq(size, 4);
    free(bytes);
}
END_TEST

/* The same with streams that the shell is to open; gives the exit status. */
static int serve_with(const char *before, const char *streams, const char *behind)
{
    const char *wrapper = getenv("MESON_EXE_WRAPPER");
    char command[2048];
    snprintf(command, sizeof command,
             "%.200s { %.500s %.500s " SERVE "%.200s; echo $? >status; } %.200s", before,
             wrapper ? wrapper : "", getenv("TACIT_PROGRAM"), streams, behind);
    ck_assert_int_eq(system(command), 0);
    slurp("status", out_text, sizeof out_text);
    slurp("err.txt", err_text, sizeof err_text);
    return atoi(out_text);
}

START_TEST(streams_that_fail)
{
    char in[64], yes[128];
    file_put("in.txt", in, (size_t)sprintf(in, "%s\n", usable_at(0)->path));
    ck_assert_int_eq(serve_with("", "<in.txt >/dev/full 2>err.txt", ""), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "standard output: No space left"));
    ck_assert_int_eq(serve_with("", "<in.txt >&- 2>err.txt", ""), 1);
    ck_assert_int_eq(serve_with("", "<&- >out.txt 2>err.txt", ""), 1);
    ck_assert_int_eq(serve_with("", "<images >out.txt 2>err.txt", ""), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "standard input: Is a directory"));
    ck_assert_int_eq(serve_with("", "<in.txt >out.txt 2>&-", ""), 0);
    /* A reader that goes away. */
    snprintf(yes, sizeof yes, "yes %s 2>yes.txt |", usable_at(0)->path);
    ck_assert_int_eq(serve_with(yes, "2>err.txt", "| head -n 3 >out.txt"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "standard output: Broken pipe"));
}
END_TEST

/* Sockets ------------------------------------------------------------------------------------- */

/* Servers of the test that runs: a test that fails leaves none to the next. */
static pid_t started[8];
static unsigned started_count;

static void forget_servers(void)
{
    started_count = 0;
}

static void kill_servers(void)
{
    for (unsigned i = 0; i < started_count; i++)
        if (waitpid(started[i], NULL, WNOHANG) == 0) {
            kill(started[i], SIGKILL);
            waitpid(started[i], NULL, 0);
        }
    unlink("s");
}

/* A server that was started; its stderr goes to server.txt. */
static pid_t start(const char *options, int in)
{
    char command[2048];
    const char *wrapper = getenv("MESON_EXE_WRAPPER");
    snprintf(command, sizeof command,
             "exec %.500s %.500s " SERVE "--json %.500s >answers.txt 2>server.txt",
             wrapper ? wrapper : "", getenv("TACIT_PROGRAM"), options);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        if (in >= 0)
            dup2(in, 0);
        signal(SIGPIPE, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", command, NULL);
        _exit(126);
    }
    ck_assert_uint_lt(started_count, sizeof started / sizeof *started);
    return started[started_count++] = pid;
}

static int finish(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    slurp("server.txt", err_text, sizeof err_text);
    ck_assert_msg(WIFEXITED(status), "%d: %s", status, err_text);
    return WEXITSTATUS(status);
}

static int stop(pid_t pid, int number)
{
    kill(pid, number);
    return finish(pid);
}

static int try_connect(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) == 0)
        return fd;
    close(fd);
    return -1;
}

/* A connection, once the server is there. A read that takes a minute fails the test. */
static int dial(void)
{
    int fd = -1;
    for (unsigned i = 0; i < 6000 && fd < 0; i++) {
        if ((fd = try_connect("s")) < 0)
            usleep(10000);
    }
    ck_assert_msg(fd >= 0, "no server");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 60 },
               sizeof(struct timeval));
    return fd;
}

static void send_all(int fd, const void *bytes, size_t size)
{
    for (const char *p = bytes; size;) {
        ssize_t n = write(fd, p, size);
        ck_assert_msg(n > 0, "write: %s", strerror(errno));
        p += n;
        size -= (size_t)n;
    }
}

static void send_line(int fd, const char *line)
{
    char text[256];
    send_all(fd, text, put_line(text, line));
}

/* The next answer, ended by a zero; NULL at the end of the connection. */
static char *receive_line(int fd)
{
    static char line[1 << 14];
    size_t n = 0;
    while (n < sizeof line) {
        ssize_t got = read(fd, line + n, 1);
        ck_assert_msg(got >= 0 || errno == ECONNRESET, "read: %s", strerror(errno));
        if (got <= 0) {
            ck_assert_uint_eq(n, 0);
            return NULL;
        }
        if (line[n++] == '\n')
            break;
    }
    line[n - 1] = 0;
    return line;
}

/* A question of a client that behaves. */
static void ask(int fd, unsigned i)
{
    send_line(fd, known[i % INPUTS].path);
    expect(receive_line(fd), known[i % INPUTS].path, &known[i % INPUTS]);
}

START_TEST(many_clients_at_once)
{
    enum { CLIENTS = 9, EACH = 40 };
    pid_t pid = start("--socket s --clients 8 --queue 5 --batch 4", -1);
    int fd[CLIENTS];
    for (unsigned c = 0; c < CLIENTS; c++)
        fd[c] = dial(); /* the ninth is let in when one has left */
    for (unsigned i = 0; i < EACH; i++)
        for (unsigned c = 0; c < CLIENTS; c++)
            send_line(fd[c], known[(i + c) % INPUTS].path);
    for (unsigned c = 0; c < CLIENTS; c++) {
        if (c % 2)
            shutdown(fd[c], SHUT_WR);
        for (unsigned i = 0; i < EACH; i++)
            expect(receive_line(fd[c]), known[(i + c) % INPUTS].path, &known[(i + c) % INPUTS]);
        if (c % 2)
            ck_assert_ptr_null(receive_line(fd[c]));
        close(fd[c]);
    }
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
    ck_assert_double_eq(told(err_text, "count"), EACH * CLIENTS * USABLE / INPUTS);
    ck_assert_double_eq(told(err_text, "lost"), 0);
    ck_assert_double_lt(told(err_text, "batches"), EACH * CLIENTS);
    ck_assert_int_ne(access("s", F_OK), 0);
}
END_TEST

/* One after the other: each is computed alone and at once. */
START_TEST(nobody_waits_for_company)
{
    pid_t pid = start("--socket s --batch 8", -1);
    int fd = dial();
    for (unsigned i = 0; i < 2 * INPUTS; i++)
        ask(fd, i);
    close(fd);
    ck_assert_int_eq(stop(pid, SIGINT), 0);
    ck_assert_double_eq(told(err_text, "batches"), 2 * INPUTS);
    ck_assert_ptr_nonnull(strstr(err_text, "\"batch_sizes\":{\"1\":24}"));
}
END_TEST

/* A client with one request comes before most of those that another one sent before it. */
START_TEST(many_requests_of_one_client_wait)
{
    enum { MANY = 40 };
    scene_png("large.png", 1, 1200, 1000);
    pid_t pid = start("--socket s --queue 64 --batch 2", -1);
    int many = dial(), one = dial();
    for (unsigned i = 0; i < MANY; i++)
        send_line(many, "large.png");
    ck_assert_ptr_nonnull(strstr(receive_line(many), "{\"path\":\"large.png\",\"vector\""));
    ask(one, 0);
    static char text[1 << 17];
    ssize_t n = recv(many, text, sizeof text, MSG_DONTWAIT);
    unsigned before = 1;
    for (ssize_t i = 0; i < n; i++)
        before += text[i] == '\n';
    /* One when it asked, two batches, and what was done until the answer was seen. */
    ck_assert_msg(before < MANY / 2, "%u of %u came before", before, MANY);
    close(one);
    close(many);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
    ck_assert_double_gt(told(err_text, "lost"), 0);
    ck_assert_double_lt(told(err_text, "count"), MANY);
}
END_TEST

/* Fills a connection with requests that are not read back, until no more is taken. */
static size_t flood(int fd, const char *line)
{
    char text[128];
    size_t size = put_line(text, line), sent = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 500) == 1) {
        ssize_t n = write(fd, text + sent % size, size - sent % size);
        if (n > 0)
            sent += (size_t)n;
        ck_assert_uint_lt(sent, 64 << 20);
    }
    return sent;
}

START_TEST(hostile_clients_stall_nobody)
{
    pid_t pid = start("--socket s --clients 32", -1);
    int good = dial(), silent = dial(), half = dial(), frame = dial(), deaf = dial();
    (void)silent;
    send_all(half, "images/a/0", 10);
    send_all(frame, "bytes 33554432\nabc", 18);
    size_t sent = flood(deaf, known[0].path);
    ck_assert_uint_gt(sent, 1000);
    for (unsigned i = 0; i < INPUTS; i++)
        ask(good, i);
    unsigned char noise[4096];
    for (unsigned i = 0; i < sizeof noise; i++)
        noise[i] = (unsigned char)tacit_rng_u32(5, 1, i);
    for (unsigned i = 0; i < 40; i++) {
        int fd = dial();
        switch (i % 4) {
        case 0: /* comes and goes */ break;
        case 1: /* asks and goes */
            for (unsigned k = 0; k < 30; k++)
                send_line(fd, known[k % INPUTS].path);
            break;
        case 2: { /* garbage; it may be told to stop, or that it was cut off */
            ssize_t n = write(fd, noise, sizeof noise);
            (void)n;
            break;
        }
        case 3: /* asks, reads a little, goes */
            send_line(fd, known[0].path);
            send_line(fd, known[0].path);
            expect(receive_line(fd), known[0].path, &known[0]);
            send_all(fd, "bytes 1000\nabc", 14);
            break;
        }
        close(fd);
        ask(good, i);
    }
    /* Noise is answered, line by line. */
    int fd = dial();
    send_all(fd, noise, sizeof noise);
    shutdown(fd, SHUT_WR);
    unsigned lines = 0, answers = 0;
    for (unsigned i = 0; i < sizeof noise; i++)
        lines += noise[i] == '\n';
    for (; receive_line(fd); answers++)
        ;
    ck_assert_uint_eq(answers, lines + (noise[sizeof noise - 1] != '\n'));
    close(fd);
    for (unsigned i = 0; i < INPUTS; i++)
        ask(good, i);
    /* The one that does not read is given up after five seconds, the others are not waited for. */
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_int_ge(after.tv_sec - before.tv_sec, 4);
    ck_assert_int_le(after.tv_sec - before.tv_sec, 30);
    ck_assert_double_gt(told(err_text, "lost"), 0);
    ck_assert_ptr_null(receive_line(good));
    ck_assert_ptr_null(receive_line(half));
    close(good), close(silent), close(half), close(frame), close(deaf);
}
END_TEST

static unsigned long resident_kb(pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    const char *at = strstr(text, "VmRSS:");
    ck_assert_ptr_nonnull(at);
    /* Sanitizers and emulators have memory of their own. */
    return getenv("TACIT_SLOW_MACHINE") ? 0 : strtoul(at + 6, NULL, 10);
}

/* Clients that send all they can and read nothing: paths, and images, of which a client has 32 MiB
 * in memory. */
START_TEST(memory_is_bounded)
{
    enum { CLIENTS = 3 };
    pid_t pid = start("--socket s --queue 64", -1);
    int paths[CLIENTS], good = dial();
    ask(good, 0);
    unsigned long before = resident_kb(pid);
    for (unsigned c = 0; c < CLIENTS; c++) {
        paths[c] = dial();
        flood(paths[c], known[c].path);
    }
    unsigned long idle = resident_kb(pid);
    ck_assert_msg(idle < before + (20 << 10), "%lu and %lu KiB", before, idle);
    /* Behind images that take their time each one of 20 MiB waits for that before it. */
    enum { SLOW = 30 };
    size_t size = (size_t)20 << 20;
    unsigned char *junk = calloc(1, size);
    int images = dial();
    scene_png("large.png", 1, 1200, 1000);
    for (unsigned i = 0; i < SLOW; i++)
        send_line(images, "large.png");
    for (unsigned i = 0; i < 8; i++) {
        char head[32];
        send_all(images, head, (size_t)sprintf(head, "bytes %zu\n", size));
        send_all(images, junk, size);
        unsigned long now = resident_kb(pid);
        ck_assert_msg(now < idle + (50 << 10), "%lu and %lu KiB", idle, now);
    }
    for (unsigned i = 0; i < SLOW; i++)
        ck_assert_ptr_nonnull(strstr(receive_line(images), "\"vector\""));
    for (unsigned i = 0; i < 8; i++)
        expect_error(receive_line(images), "malformed", "not a JPEG or PNG");
    free(junk);
    ask(good, 1);
    for (unsigned c = 0; c < CLIENTS; c++)
        close(paths[c]);
    close(images);
    ask(good, 2);
    close(good);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
}
END_TEST

/* One request of some kind, behind `to`; expected: the known image it is, else the status. */
static size_t put_random(char *to, uint32_t kind, uint32_t draw, const struct known **image,
                         const char **status)
{
    const struct known *k = &known[draw % INPUTS];
    *image = NULL;
    *status = "malformed";
    switch (kind % 8) {
    case 0:
    case 1:
    case 2: *image = k; return (size_t)sprintf(to, "%s%s\n", k->path, kind % 8 ? "" : "\r");
    case 3:
    case 4: *image = usable_at(draw % USABLE); return put_image(to, (*image)->path);
    case 5: memcpy(to, "bytes 5\n\nb\0\r\n", 13); return 13;
    case 6: *status = "invalid"; return put_line(to, "");
    default:
        *status = "too-large";
        memset(to, 'b', 4096 + draw % 40000);
        to[4096 + draw % 40000] = '\n';
        return 4097 + draw % 40000;
    }
}

/* Requests of all kinds, cut anywhere on their way: each has its answer, in its place. */
START_TEST(requests_in_any_pieces)
{
    enum { COUNT = 200 };
    static const struct known *image[COUNT];
    static const char *status[COUNT];
    static char text[COUNT * 50000];
    char options[64];
    for (unsigned round = 0; round < 4; round++) {
        size_t size = 0;
        uint64_t at = 0;
        for (unsigned i = 0; i < COUNT; i++, at += 2)
            size += put_random(text + size, tacit_rng_u32(11, round, at),
                               tacit_rng_u32(11, round, at + 1), &image[i], &status[i]);
        snprintf(options, sizeof options, "--socket s --queue %u --batch 3", 1 + 3 * round);
        pid_t pid = start(options, -1);
        int fd = dial();
        pid_t writer = fork();
        ck_assert_int_ge(writer, 0);
        if (writer == 0) {
            for (size_t sent = 0, n; sent < size; sent += n, at++) {
                unsigned most = 1u << tacit_rng_u32(11, round, at) % 16;
                n = 1 + tacit_rng_u32(12, round, at) % most;
                n = n < size - sent ? n : size - sent;
                for (size_t done = 0; done < n;) {
                    ssize_t got = write(fd, text + sent + done, n - done);
                    if (got < 0)
                        _exit(1);
                    done += (size_t)got;
                }
                if (tacit_rng_u32(13, round, at) % 8 == 0)
                    usleep(200);
            }
            shutdown(fd, SHUT_WR);
            _exit(0);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            char *line = receive_line(fd);
            ck_assert_msg(line != NULL, "round %u: the end instead of answer %u", round, i);
            if (image[i])
                expect(line, strstr(line, "{\"path\":null") ? NULL : image[i]->path, image[i]);
            else
                expect_error(line, status[i], "{\"path\":null");
        }
        ck_assert_ptr_null(receive_line(fd));
        int ended;
        ck_assert_int_eq(waitpid(writer, &ended, 0), writer);
        ck_assert(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
        close(fd);
        ck_assert_int_eq(stop(pid, SIGTERM), 0);
        ck_assert_double_eq(told(err_text, "count") + told(err_text, "errors"), COUNT);
    }
}
END_TEST

/* Few descriptors: connections wait until one is left, and those that are open are served. */
START_TEST(few_descriptors)
{
    pid_t pid = start("--socket s --clients 64", -1);
    int first = dial();
    ask(first, 0);
    char list[64];
    snprintf(list, sizeof list, "/proc/%d/fd", (int)pid);
    struct rlimit few = { count_names(list) + 3, count_names(list) + 3 };
    ck_assert_int_eq(prlimit(pid, RLIMIT_NOFILE, &few, NULL), 0);
    int fd[8];
    for (unsigned i = 0; i < 8; i++) {
        fd[i] = dial();
        send_line(fd[i], known[i].path);
    }
    for (unsigned i = 0; i < 8; i++) {
        char *line = receive_line(fd[i]); /* a file needs a descriptor, too */
        ck_assert_ptr_nonnull(line);
        ck_assert_msg(strstr(line, known[i].path), "%.100s", line);
        close(fd[i]);
    }
    ask(first, 5);
    close(first);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
}
END_TEST

/* A client that does not read is not read from; when it reads, it has all its answers. */
START_TEST(back_pressure)
{
    pid_t pid = start("--socket s --queue 4", -1);
    int fd = dial();
    size_t line = strlen(known[1].path) + 1, sent = flood(fd, known[1].path);
    fcntl(fd, F_SETFL, 0);
    /* Four slots and what the system and the server keep of what was not taken up: not all. */
    ck_assert_uint_gt(sent / line, 4);
    ck_assert_uint_lt(sent, 4 << 20);
    char text[128];
    put_line(text, known[1].path);
    size_t asked = (sent + line - 1) / line;
    send_all(fd, text + sent % line, asked * line - sent); /* the rest of the last line */
    shutdown(fd, SHUT_WR);
    for (size_t i = 0; i < asked; i++)
        expect(receive_line(fd), known[1].path, &known[1]);
    ck_assert_ptr_null(receive_line(fd));
    close(fd);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
    ck_assert_double_eq(told(err_text, "count") + told(err_text, "errors"), (double)asked);
}
END_TEST

/* What was taken up when the signal came is answered: as many answers as the server counts. */
START_TEST(stop_amid_requests)
{
    enum { SENT = 60, QUEUE = 6 };
    for (int round = 0; round < 4; round++) {
        pid_t pid = start("--socket s --queue 6", -1);
        int fd[3];
        for (unsigned c = 0; c < 3; c++) {
            fd[c] = dial();
            for (unsigned i = 0; i < SENT; i++)
                send_line(fd[c], known[i % INPUTS].path);
        }
        for (unsigned c = 0; c < 3; c++)
            expect(receive_line(fd[c]), known[0].path, &known[0]);
        usleep((unsigned)round * 3000);
        kill(pid, round % 2 ? SIGINT : SIGTERM);
        unsigned answers = 3;
        for (unsigned c = 0; c < 3; c++) {
            unsigned i = 1;
            for (char *line; (line = receive_line(fd[c])); i++)
                expect(line, known[i % INPUTS].path, &known[i % INPUTS]);
            ck_assert_uint_ge(i, QUEUE);
            answers += i - 1;
            close(fd[c]);
        }
        ck_assert_int_eq(finish(pid), 0);
        ck_assert_double_eq(told(err_text, "count") + told(err_text, "errors"), answers);
        ck_assert_double_eq(told(err_text, "lost"), 0);
        ck_assert_int_ne(access("s", F_OK), 0);
    }
}
END_TEST

/* The same of a stream, whose end is told by the status. */
START_TEST(stop_of_a_stream)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    pid_t pid = start("--queue 4", ends[0]);
    close(ends[0]);
    send_line(ends[1], known[0].path);
    send_line(ends[1], "half");
    static char text[1 << 16];
    for (unsigned i = 0; i < 6000; i++, usleep(10000)) {
        slurp("answers.txt", text, sizeof text);
        if (strchr(text, '\n') != strrchr(text, '\n'))
            break;
    }
    send_all(ends[1], "images", 6);
    ck_assert_int_eq(stop(pid, SIGTERM), 143);
    close(ends[1]);
    slurp("answers.txt", text, sizeof text);
    char *at = text;
    expect(next_line(&at), known[0].path, &known[0]);
    expect_error(next_line(&at), "unreadable", "half");
    ck_assert_ptr_null(next_line(&at));
    ck_assert_double_eq(told(err_text, "count"), 1);
}
END_TEST

START_TEST(the_socket_file)
{
    pid_t pid = start("--socket s", -1);
    int fd = dial();
    struct stat info;
    ck_assert_int_eq(lstat("s", &info), 0);
    ck_assert_msg(S_ISSOCK(info.st_mode) && (info.st_mode & 0777) == 0600, "%o", info.st_mode);
    fails(1, "", SERVE "--socket s", "s: another server answers there");
    ask(fd, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(access("s", F_OK), 0); /* what a dead server leaves */
    close(fd);

    pid = start("--socket s", -1);
    fd = dial();
    ask(fd, 1);
    /* A file that is not its own stays. */
    ck_assert_int_eq(rename("s", "aside"), 0);
    file_put("s", "data", 4);
    ck_assert_int_eq(stop(pid, SIGTERM), 0);
    ck_assert_int_eq(lstat("s", &info), 0);
    ck_assert(S_ISREG(info.st_mode));
    unlink("s");
    unlink("aside");
    close(fd);

    /* Of several at once one gets the name. */
    pid_t all[4];
    for (int i = 0; i < 4; i++)
        all[i] = start("--socket s", -1);
    fd = dial();
    int refused = 0, status;
    for (int i = 0; i < 3; i++) {
        pid_t one = wait(&status);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        for (int k = 0; k < 4; k++)
            if (all[k] == one) {
                all[k] = 0;
                refused++;
            }
    }
    ck_assert_int_eq(refused, 3);
    ask(fd, 2);
    close(fd);
    for (int k = 0; k < 4; k++)
        if (all[k])
            ck_assert_int_eq(stop(all[k], SIGTERM), 0);
    ck_assert_int_ne(access("s", F_OK), 0);
}
END_TEST

/* In process ---------------------------------------------------------------------------------- */

static tacit_options options_of(unsigned threads, size_t batch)
{
    tacit_options o = TACIT_OPTIONS_INIT;
    o.weights = "w.safetensors";
    o.threads = threads;
    o.batch = batch;
    return o;
}

static void expect_input(const tacit_input *input, const struct known *k)
{
    ck_assert_msg((input->status == TACIT_OK) == usable(k), "%s: %s", k->path, input->err.text);
    if (usable(k))
        ck_assert_mem_eq(input->vector, k->vector, sizeof k->vector);
    else
        ck_assert_msg(strstr(input->err.text, input->path ? k->path : ""), "%s", input->err.text);
}

START_TEST(batches_of_inputs)
{
    enum { COUNT = 3 * INPUTS };
    static tacit_input inputs[COUNT];
    static float vectors[COUNT][DIM];
    tacit_err err;
    for (size_t batch = 0; batch < 9; batch += 4) {
        tacit_options o = options_of(2, batch);
        tacit_extractor *e;
        ck_assert_msg(tacit_extractor_open(&e, &o, &err) == TACIT_OK, "%s", err.text);
        unsigned char *bytes[COUNT] = { 0 };
        tacit_image images[COUNT] = { 0 };
        for (unsigned i = 0; i < COUNT; i++) {
            const struct known *k = &known[i % INPUTS];
            inputs[i] = (tacit_input){ .vector = vectors[i] };
            if (i % 3 == 0 || !usable(k)) {
                inputs[i].path = k->path;
                continue;
            }
            bytes[i] = file_get(k->path, &inputs[i].size);
            inputs[i].bytes = bytes[i];
            if (i % 3 == 2) {
                tacit_image_decode(&images[i], bytes[i], inputs[i].size, NULL, &err);
                inputs[i].bytes = images[i].rgb;
                inputs[i].width = images[i].width;
                inputs[i].height = images[i].height;
            }
        }
        for (int turn = 0; turn < 2; turn++) {
            memset(vectors, 0, sizeof vectors);
            tacit_status first = tacit_extractor_embed_batch(e, inputs, COUNT, &err), want = 0;
            for (unsigned i = 0; i < COUNT; i++) {
                expect_input(&inputs[i], &known[i % INPUTS]);
                if (want == TACIT_OK && inputs[i].status < 0) {
                    want = inputs[i].status;
                    ck_assert_str_eq(err.text, inputs[i].err.text);
                }
            }
            ck_assert_int_eq(first, want);
        }
        inputs[1].height = 5;
        inputs[1].path = NULL;
        inputs[1].width = 0;
        ck_assert_int_eq(tacit_extractor_embed_batch(e, inputs + 1, 1, &err), TACIT_EINVAL);
        ck_assert_int_eq(tacit_extractor_embed_batch(e, inputs, 0, &err), TACIT_OK);
        for (unsigned i = 0; i < COUNT; i++) {
            free(bytes[i]);
            tacit_image_free(&images[i]);
        }
        tacit_extractor_close(&e);
    }
    tacit_options o = options_of(1, 257);
    tacit_extractor *e;
    ck_assert_int_eq(tacit_extractor_open(&e, &o, &err), TACIT_EINVAL);
    ck_assert_ptr_null(e);
}
END_TEST

struct caller {
    tacit_server *server;
    unsigned first, wrong;
};

static void *call(void *arg)
{
    struct caller *c = arg;
    for (unsigned i = 0; i < 10 * INPUTS; i++) {
        const struct known *k = &known[(c->first + i) % INPUTS];
        float vector[DIM] = { 0 };
        tacit_input input = { .path = k->path, .vector = vector };
        tacit_status st = tacit_server_embed(c->server, &input);
        c->wrong += st != input.status || (st == TACIT_OK) != usable(k) ||
                    (usable(k) && memcmp(vector, k->vector, sizeof vector));
    }
    return NULL;
}

START_TEST(nothing_is_allocated_for_a_photo_that_was_seen)
{
    char path[1100];
    tacit_err err;
    tacit_options o = options_of(2, 2);
    tacit_server *server;
    size_t size;
    snprintf(path, sizeof path, "%s/demo/photos/dress/07cddef1.jpg", getenv("TACIT_SOURCE"));
    unsigned char *jpeg = file_get(path, &size);
    ck_assert_msg(tacit_server_open(&server, &o, &err) == TACIT_OK, "%s", err.text);
    uint64_t before = 0;
    for (int i = 0; i < 3; i++) {
        float vector[DIM], again[DIM];
        tacit_input input = { .path = path, .vector = vector };
        ck_assert_int_eq(tacit_server_embed(server, &input), TACIT_OK);
        input = (tacit_input){ .bytes = jpeg, .size = size, .vector = again };
        ck_assert_int_eq(tacit_server_embed(server, &input), TACIT_OK);
        ck_assert_mem_eq(vector, again, sizeof vector);
        ck_assert(i == 0 || tacit_alloc_count() == before);
        before = tacit_alloc_count();
    }
    tacit_server_close(&server);
    free(jpeg);
}
END_TEST

START_TEST(a_server_in_process)
{
    enum { CALLERS = 5 };
    tacit_err err;
    tacit_options o = options_of(2, 0);
    tacit_server *server;
    ck_assert_msg(tacit_server_open(&server, &o, &err) == TACIT_OK, "%s", err.text);
    ck_assert_uint_eq(tacit_server_dim(server), DIM);
    tacit_latency none;
    tacit_server_latency(server, &none);
    ck_assert(none.count == 0 && none.batches == 0 && none.max_s == 0);
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){ .server = server, .first = i };
        ck_assert_int_eq(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(callers[i].wrong, 0);
    }
    tacit_latency all;
    tacit_server_latency(server, &all);
    ck_assert_uint_eq(all.count, CALLERS * 10 * USABLE);
    ck_assert_uint_le(all.batches, CALLERS * 10 * INPUTS);
    ck_assert(0 < all.p50_s && all.p50_s <= all.p99_s && all.p99_s <= all.p999_s &&
              all.p999_s <= all.max_s);
    tacit_server_close(&server);
    ck_assert_ptr_null(server);
    tacit_server_close(&server);
}
END_TEST

START_TEST(every_allocation_fails)
{
    tacit_err err;
    for (int persist = 0; persist < 2; persist++) {
        uint64_t n = 0;
        for (tacit_status st = TACIT_ENOMEM; st != TACIT_OK; n++) {
            float vector[DIM];
            tacit_input input = { .path = usable_at(0)->path, .vector = vector };
            tacit_options o = options_of(2, 4);
            tacit_server *server;
            err.text[0] = 0;
            tacit_alloc_fail_at(n + 1, persist);
            st = tacit_server_open(&server, &o, &err);
            if (st == TACIT_OK) {
                st = tacit_server_embed(server, &input);
                err = input.err;
                tacit_alloc_fail_at(0, false);
                /* Such an image fails alone. */
                ck_assert_int_eq(tacit_server_embed(server, &input), TACIT_OK);
                ck_assert_mem_eq(vector, usable_at(0)->vector, sizeof vector);
            }
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && err.text[0]),
                          "call %llu: status %d, \"%s\"", (unsigned long long)n, st, err.text);
            tacit_server_close(&server);
        }
        ck_assert_uint_gt(n, 30);
    }
}
END_TEST

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Against the sorted times, from a nanosecond to an hour. */
START_TEST(quantiles_of_the_histogram)
{
    enum { COUNT = 20000 };
    static uint64_t times[COUNT];
    static tacit_histogram h;
    static const double shares[] = { 0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 };
    ck_assert_double_eq(tacit_histogram_quantile(&h, 0.5), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned bits = tacit_rng_u32(3, 0, 2 * i) % 40;
        times[i] = ((uint64_t)1 << bits) + tacit_rng_u32(3, 0, 2 * i + 1) % ((uint64_t)1 << bits);
        if (i < 3) /* beyond the last bucket, and nothing */
            times[i] = i ? UINT64_C(3600000000000) + i : 0;
        tacit_histogram_add(&h, times[i]);
    }
    qsort(times, COUNT, sizeof *times, by_size);
    for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++) {
        size_t rank = (size_t)(shares[i] * COUNT + 0.999999);
        double right = 1e-9 * (double)times[rank ? rank - 1 : 0],
               got = tacit_histogram_quantile(&h, shares[i]);
        ck_assert_msg(got >= right * (1 - 1e-12) && got <= right * 1.008, "%g: %.12g, not %.12g",
                      shares[i], got, right);
    }
    ck_assert_uint_eq(h.count, COUNT);
    ck_assert_uint_eq(h.longest, times[COUNT - 1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("serve");
    TCase *tcase = tcase_create("serve");
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_add_checked_fixture(tcase, forget_servers, kill_servers);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, vectors_have_the_bits_of_extract);
    tcase_add_test(tcase, options_are_those_of_extract);
    tcase_add_test(tcase, bytes_and_paths);
    tcase_add_test(tcase, strange_requests);
    tcase_add_test(tcase, framing_that_is_lost);
    tcase_add_test(tcase, wrong_usage_and_places);
    tcase_add_test(tcase, streams_that_fail);
    tcase_add_test(tcase, many_clients_at_once);
    tcase_add_test(tcase, nobody_waits_for_company);
    tcase_add_test(tcase, many_requests_of_one_client_wait);
    tcase_add_test(tcase, hostile_clients_stall_nobody);
    tcase_add_test(tcase, requests_in_any_pieces);
    tcase_add_test(tcase, memory_is_bounded);
    tcase_add_test(tcase, few_descriptors);
    tcase_add_test(tcase, back_pressure);
    tcase_add_test(tcase, stop_amid_requests);
    tcase_add_test(tcase, stop_of_a_stream);
    tcase_add_test(tcase, the_socket_file);
    tcase_add_test(tcase, batches_of_inputs);
    tcase_add_test(tcase, a_server_in_process);
    tcase_add_test(tcase, nothing_is_allocated_for_a_photo_that_was_seen);
    tcase_add_test(tcase, every_allocation_fails);
    tcase_add_test(tcase, quantiles_of_the_histogram);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
