/* SPDX-License-Identifier: Apache-2.0 */
/* SVG by printf: readable in light and dark, no script, no font but the viewer's own. */
#include "membership/plot.h"

#include <stdio.h>

#define W      720
#define H      400
#define LEFT   70
#define TOP    50
#define WIDTH  (W - LEFT - 30)
#define HEIGHT (H - TOP - 60)

static const char *const colours[PLOT_LINES_MAX] = {"#0072b2", "#d55e00", "#009e73",
                                                    "#cc79a7", "#56b4e9", "#e69f00"};

/* Dashes too, for those who do not see the colours apart. */
static const char *const dashes[PLOT_LINES_MAX] = {"none", "8 4", "2 4", "10 4 2 4", "none", "8 4"};

static FILE *begin(const char *path, unsigned charts)
{
    FILE *f = fopen(path, "w");

    if (f == NULL) {
        perror(path);
        return NULL;
    }
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %u\" "
            "font-family=\"sans-serif\" font-size=\"13\">\n"
            "<rect width=\"%d\" height=\"%u\" fill=\"white\"/>\n",
            W, H * charts, W, H * charts);
    return f;
}

static void names(FILE *f, const char *title, const char *x_name, const char *y_name)
{
    fprintf(f,
            "<text x=\"%d\" y=\"28\" font-size=\"16\">%s</text>\n"
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
            "<text transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
            LEFT, title, LEFT + WIDTH / 2, H - 14, x_name, TOP + HEIGHT / 2, y_name);
}

static bool end(FILE *f, const char *path)
{
    bool bad = fputs("</svg>\n", f) < 0;

    bad |= fclose(f) != 0;
    if (bad) {
        perror(path);
    }
    return !bad;
}

static void y_axis(FILE *f, double max)
{
    for (int i = 0; i <= 5; i++) {
        double y = TOP + HEIGHT - HEIGHT * i / 5.0;
        fprintf(f,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, LEFT + WIDTH, y, y, LEFT - 8, y + 4, max * i / 5);
    }
}

void plot_point(struct plot_line *l, double x, double y)
{
    if (l->n < PLOT_POINTS_MAX) {
        l->x[l->n] = x;
        l->y[l->n++] = y;
    }
}

static void line(FILE *f, const struct plot_chart *c, unsigned k)
{
    const struct plot_line *l = &c->lines[k];
    int x = LEFT + (c->legend_right ? WIDTH * 2 / 3 : 14);
    unsigned y = TOP + HEIGHT - 14 - 18 * (c->n_lines - 1 - k);

    fprintf(f,
            "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"%s\" stroke-dasharray=\"%s\" "
            "points=\"",
            colours[k], dashes[k]);
    for (unsigned i = 0; i < l->n; i++) {
        fprintf(f, "%.1f,%.1f ", LEFT + WIDTH * l->x[i] / c->x_max,
                TOP + HEIGHT - HEIGHT * l->y[i] / 100);
    }
    fprintf(f,
            "\"/>\n<line x1=\"%d\" x2=\"%d\" y1=\"%u\" y2=\"%u\" stroke=\"%s\" "
            "stroke-width=\"2\" stroke-dasharray=\"%s\"/>\n"
            "<text x=\"%d\" y=\"%u\" fill=\"%s\">%s</text>\n",
            x, x + 40, y - 4, y - 4, colours[k], dashes[k], x + 48, y, colours[k], l->name);
}

bool plot_charts(const char *path, const struct plot_chart *charts, unsigned n)
{
    FILE *f = begin(path, n);

    if (f == NULL) {
        return false;
    }
    for (unsigned c = 0; c < n; c++) {
        fprintf(f, "<g transform=\"translate(0 %u)\">\n", H * c);
        names(f, charts[c].title, charts[c].x_name, charts[c].y_name);
        y_axis(f, 100);
        for (int i = 0; i <= 10; i++) {
            fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                    LEFT + WIDTH * i / 10, TOP + HEIGHT + 20, charts[c].x_max * i / 10);
        }
        for (unsigned k = 0; k < charts[c].n_lines && k < PLOT_LINES_MAX; k++) {
            line(f, &charts[c], k);
        }
        fprintf(f, "</g>\n");
    }
    return end(f, path);
}

bool plot_bars(const char *path, const char *title, const char *x_name, const char *y_name,
               const double *y, unsigned first, unsigned last)
{
    FILE *f = begin(path, 1);
    unsigned n = last - first + 1;
    double max = 1;

    if (f == NULL) {
        return false;
    }
    for (unsigned i = first; i <= last; i++) {
        while (y[i] > max) {
            max *= max * 2 < y[i] ? 2 : 1.25;
        }
    }
    names(f, title, x_name, y_name);
    y_axis(f, max);
    for (unsigned i = first; i <= last; i++) {
        double w = (double)WIDTH / n;
        double x = LEFT + w * (i - first);
        double h = HEIGHT * y[i] / max;
        fprintf(f,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n"
                "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" font-size=\"11\">%.0f</text>\n"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%u</text>\n",
                x + w * 0.1, TOP + HEIGHT - h, w * 0.8, h, colours[0], x + w / 2,
                TOP + HEIGHT - h - 4, y[i], x + w / 2, TOP + HEIGHT + 20, i);
    }
    return end(f, path);
}
