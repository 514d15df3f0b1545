/* Preloaded into a process: libraries whose `cpuid` was replaced by `ud2` (see __main__.py), and /proc/cpuinfo, show a
 * CPU with AVX2 that has neither AVX-512 nor VNNI, GFNI or AMX. Bits: Intel's Software Developer's Manual, volume 2,
 * CPUID, leaves 7.0, 7.1 and 24h. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))
static const unsigned EBX_7_0 = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
static const unsigned ECX_7_0 = BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(11) | BIT(12) | BIT(14);
static const unsigned EDX_7_0 = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
static const unsigned EAX_7_1 = BIT(4) | BIT(5) | BIT(21) | BIT(23);
static const unsigned EDX_7_1 = BIT(4) | BIT(5) | BIT(10) | BIT(19) | BIT(21);
static const char *const HIDDEN[] = {"avx512", "avx_vnni", "avx_ifma", "amx_", "gfni", "vaes", "vpclmulqdq", "avx10"};

static struct sigaction before;

static void on_illegal(int signal, siginfo_t *info, void *context) {
  greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *at = (const unsigned char *)regs[REG_RIP];
  unsigned leaf = regs[REG_RAX], sub = regs[REG_RCX], a, b, c, d;
  (void)signal, (void)info;
  if (at[0] != 0x0f || at[1] != 0x0b) {
    sigaction(SIGILL, &before, NULL);
    return;
  }
  __cpuid_count(leaf, sub, a, b, c, d);
  if (leaf == 7 && sub == 0)
    b &= ~EBX_7_0, c &= ~ECX_7_0, d &= ~EDX_7_0;
  if (leaf == 7 && sub == 1)
    a &= ~EAX_7_1, d &= ~EDX_7_1;
  if (leaf == 0x24)
    a = b = c = d = 0;
  regs[REG_RAX] = a, regs[REG_RBX] = b, regs[REG_RCX] = c, regs[REG_RDX] = d;
  regs[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_illegal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, &before);
}

/* A file that reads as /proc/cpuinfo without the hidden flags, or -1. */
static int cpuinfo(int (*really)(const char *, int, ...)) {
  static char text[1 << 20];
  int source = really("/proc/cpuinfo", O_RDONLY), file;
  ssize_t got, size = 0;
  if (source < 0)
    return -1;
  while ((got = read(source, text + size, sizeof text - 1 - size)) > 0)
    size += got;
  close(source);
  text[size] = 0;
  for (unsigned i = 0; i < sizeof HIDDEN / sizeof *HIDDEN; i++)
    for (char *at = text; (at = strstr(at, HIDDEN[i]));)
      while (*at && *at != ' ' && *at != '\n')
        *at++ = ' ';
  file = memfd_create("cpuinfo", MFD_CLOEXEC);
  if (file < 0 || write(file, text, size) != size)
    return -1;
  lseek(file, 0, SEEK_SET);
  return file;
}

#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                        \
    int (*really)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                  \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    mode_t mode = va_arg(rest, mode_t);                                                                                \
    va_end(rest);                                                                                                      \
    return strcmp(path, "/proc/cpuinfo") ? really(path, flags, mode) : cpuinfo(really);                                \
  }
OPEN(open)
OPEN(open64)
