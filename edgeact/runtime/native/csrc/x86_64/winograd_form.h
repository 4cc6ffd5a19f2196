/* Convolutions of 3x3x3 taps at stride 1 by Winograd's F(2x2x2, 3x3x3) (Lavin and Gray, arXiv:1509.09308), exact in
 * integers: 64 products for 8 outputs in place of 216.
 *
 * Along each axis 4 activations d give 2 outputs y of taps g:
 *   v = (d0 - d2, d1 + d2, d2 - d1, d1 - d3), u = (2 g0, g0 + g1 + g2, g0 - g1 + g2, 2 g2), m = u v,
 *   2 y = (m0 + m1 + m2, m1 - m2 - m3).
 * With three axes |v| <= 8 * 255 and |u| <= 27 * 128 fit into int16. Sums of m are right modulo 2^32, which suffices: for
 * EA_STRIP_CHANNELS inputs |8 y| <= 8 * 255 * 128 * 27 * 128 < 2^31. */
#ifndef EDGEACT_WINOGRAD_FORM_H
#define EDGEACT_WINOGRAD_FORM_H

#include <stdint.h>

/* A strip: tiles of 2x2x2 outputs beside each other. Of EA_PRODUCT_TILES the sums for 16 outputs fill the registers. */
enum { EA_WINOGRAD_POINTS = 64, EA_PRODUCT_TILES = 6, EA_STRIP_TILES = 28, EA_STRIP_CHANNELS = 128,
       EA_STRIP_COLUMNS = 2 * EA_STRIP_TILES + 2 };

/* Scratch memory of a thread. */
typedef struct {
    int16_t columns[EA_STRIP_COLUMNS][16][16]; /* transformed in time and height: (column, point, channel) */
    int16_t activations[EA_WINOGRAD_POINTS * EA_STRIP_TILES * EA_STRIP_CHANNELS]; /* (point, tile, channel) */
    int32_t products[EA_WINOGRAD_POINTS][EA_PRODUCT_TILES][16];                   /* (point, tile, output) */
    int32_t sums[2][2][2 * EA_STRIP_TILES][16];                                   /* (frame, row, pixel, output) */
} ea_winograd_memory;

#endif
