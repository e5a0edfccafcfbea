/*
 * A disk that fails on demand, for one process: LD_PRELOADed before a node, it stands between LevelDB and the kernel for files under the folder named in
 * FAULTS_DISK_FOLDER. Before each fdatasync/fsync of such a file it reads FAULTS_DISK_ORDER, one word and a number:
 *
 *   kill-before   SIGKILL before anything is synced: the batch is in the page cache only
 *   kill-after    SIGKILL when it is on the disk and nobody has been told
 *   eio           the sync fails with EIO
 *   slow MS       the sync takes that much longer
 *
 * After each successful sync it notes the file's name and the length that is safe in FAULTS_DISK_SYNCED, so that a test can play a power cut: cut every
 * file back to what was synced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 4200

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  const char *folder = getenv("FAULTS_DISK_FOLDER");
  return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static void read_order(char *word, long *number) {
  word[0] = 0;
  *number = 0;
  const char *name = getenv("FAULTS_DISK_ORDER");
  int fd = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char text[64] = {0};
  if (read(fd, text, sizeof text - 1) > 0) sscanf(text, "%31s %ld", word, number);
  close(fd);
}

static void note_synced(const char *path, long long length) {
  const char *name = getenv("FAULTS_DISK_SYNCED");
  int fd = name == NULL ? -1 : open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  char line[LINE_BYTES];
  int size = snprintf(line, sizeof line, "%lld %s\n", length, path);
  if (size > 0 && write(fd, line, (size_t)size) != size) abort();
  close(fd);
}

static int broken_sync(const char *symbol, int fd) {
  int (*true_sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
  char path[4096];
  if (!path_of(fd, path, sizeof path)) return true_sync(fd);
  char word[32];
  long number;
  read_order(word, &number);
  if (strcmp(word, "kill-before") == 0) kill(getpid(), SIGKILL);
  if (strcmp(word, "eio") == 0) {
    errno = EIO;
    return -1;
  }
  if (strcmp(word, "slow") == 0) {
    struct timespec pause = {number / 1000, (number % 1000) * 1000000};
    nanosleep(&pause, NULL);
  }
  struct stat file;
  long long length = fstat(fd, &file) == 0 ? (long long)file.st_size : 0;
  int result = true_sync(fd);
  if (result != 0) return result;
  note_synced(path, length);
  if (strcmp(word, "kill-after") == 0) kill(getpid(), SIGKILL);
  return 0;
}

int fdatasync(int fd) { return broken_sync("fdatasync", fd); }
int fsync(int fd) { return broken_sync("fsync", fd); }
