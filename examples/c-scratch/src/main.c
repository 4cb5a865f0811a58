/* wordfreq: counts the words of its standard input and prints the most frequent. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

#ifndef VERSION
#define VERSION "dev"
#endif

enum { WORD_LENGTH_MAX = 256 };

static int count_words(FILE *input, struct table *table)
{
    char word[WORD_LENGTH_MAX];
    size_t length = 0;
    int c;
    do {
        c = getc(input);
        if (c != EOF && isalnum(c)) {
            if (length < sizeof word)
                word[length++] = (char)tolower(c);
        } else if (length > 0) {
            if (table_add(table, word, length) != 0)
                return -1;
            length = 0;
        }
    } while (c != EOF);
    return ferror(input) ? -1 : 0;
}

int main(int argc, char **argv)
{
    unsigned long shown = 10;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("wordfreq " VERSION);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "-n") == 0) {
        shown = strtoul(argv[2], NULL, 10);
    } else if (argc != 1) {
        fprintf(stderr, "usage: wordfreq [-n COUNT | --version] < TEXT\n");
        return 2;
    }
    struct table table = {0};
    if (count_words(stdin, &table) != 0) {
        perror("wordfreq");
        return 1;
    }
    table_sort(&table);
    for (size_t i = 0; i < table.used && i < shown; i++)
        printf("%7lu %s\n", table.entries[i].count, table.entries[i].word);
    table_free(&table);
    return fflush(stdout) == 0 ? 0 : 1;
}
