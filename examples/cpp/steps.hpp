// The steps around the network as docs/bundle-format.md defines them, bit for bit; C++17 only.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

using Bytes = std::vector<uint8_t>;
using Floats = std::vector<float>;
struct Box {
    int top, left, bottom, right;
    int rows() const { return bottom - top; }
    int columns() const { return right - left; }
};

// Cuts a box out of a grey or RGB frame, in grey.
inline Bytes crop_grey(const Bytes& frame, int columns, int channels, Box box) {
    Bytes image;
    for (int y = box.top; y < box.bottom; ++y)
        for (int x = box.left; x < box.right; ++x) {
            const uint8_t* p = &frame[(y * columns + x) * channels];
            image.push_back(channels == 1 ? p[0] : (9798 * p[0] + 19235 * p[1] + 3735 * p[2] + 16384) >> 15);
        }
    return image;
}

// For each new element of an axis the old ones that it is made of, with their weights (of 2048 if it grows).
inline std::vector<std::vector<std::pair<int, float>>> weigh(int from, int to, bool grows, bool linear, bool rows) {
    std::vector<std::vector<std::pair<int, float>>> all(to);
    const double growth = double(to) / from, scale = 1 / growth;
    for (int i = 0; i < to; ++i) {
        const double begin = i * scale, end = begin + scale, width = std::min(scale, from - begin);
        for (int k = begin; !grows && k < end && k < from; ++k) {
            const double covered = std::min<double>(end, k + 1) - std::max<double>(begin, k);
            if (covered > 1e-3) all[i].emplace_back(k, covered / width);
        }
        const float centre = (i + 0.5) * scale - 0.5;
        const int k = std::floor(linear ? centre : begin);
        float at = linear ? centre - k : std::max(0.0, i + 1 - (k + 1) * growth);
        at = rows || (k >= 0 && k < from - 1) ? at - std::floor(at) : 0;
        if (grows) all[i] = {{std::max(k, 0), rint(2048 - 2048 * at)}, {std::min(k + 1, from - 1), rint(2048 * at)}};
    }
    return all;
}

// Where a box lies on a canvas, and whether it is resized linearly. The stretch is that of `fit`, times
// the height of a pixel by its width if its logarithm is beyond 0.01 and the file states it.
inline std::pair<Box, bool> place(Box box, Box canvas, double stretch) {
    const double scale = std::min(canvas.rows() / (box.rows() * stretch), double(canvas.columns()) / box.columns());
    auto align = [](double length, int limit) { return std::clamp(4 * int(std::rint(length / 4)), 4, limit); };
    const int rows = align(box.rows() * stretch * scale, canvas.rows());
    const int columns = align(box.columns() * scale, canvas.columns());
    const int top = (canvas.rows() - rows) / 8 * 4, left = (canvas.columns() - columns) / 8 * 4;
    return {{top, left, top + rows, left + columns}, scale >= 1};
}

// Resizes an image into a part of a black canvas.
inline Bytes fit(const Bytes& image, Box box, Box canvas, Box inner, bool linear) {
    const bool grows = linear || inner.rows() > box.rows() || inner.columns() > box.columns();
    const bool whole = box.rows() % inner.rows() == 0 && box.columns() % inner.columns() == 0;
    const int down = box.rows() / inner.rows(), across = box.columns() / inner.columns();
    const auto rows = weigh(box.rows(), inner.rows(), grows, linear, true);
    const auto columns = weigh(box.columns(), inner.columns(), grows, linear, false);
    Bytes result(canvas.rows() * canvas.columns());
    for (int i = 0; i < inner.rows(); ++i)
        for (int j = 0; j < inner.columns(); ++j) {
            float sum = 0, total = 0;
            for (const auto& [y, height] : rows[i]) {
                float line = 0;
                for (const auto& [x, width] : columns[j]) {
                    total += image[y * box.columns() + x];
                    line += image[y * box.columns() + x] * width;
                }
                sum += grows ? int(height) * (int(line) >> 4) >> 16 : line * height;
            }
            if (grows) sum = (int(sum) + 2) >> 2;
            else if (whole) sum = down == 2 && across == 2 ? int(total + 2) / 4 : total * (1.0f / (down * across));
            result[(inner.top + i) * canvas.columns() + inner.left + j] = std::rint(sum);
        }
    return result;
}

// Interpolates logits (K, h, w) linearly about their centres, then takes the class of the largest.
inline Bytes restore(const Floats& logits, int stride, Box input, Box inner, Box frame, Box box) {
    auto place = [](int i, double n, int to) { return std::clamp((i + 0.5) * (n / to) - 0.5, 0.0, n - 1); };
    auto mix = [](float a, float b, double at) { return std::fma(b - a, float(at - int(at)), a); };
    const int rows = inner.rows() / stride, columns = inner.columns() / stride, pitch = input.right / stride;
    Bytes labels(frame.rows() * frame.columns());
    for (int i = 0; i < box.rows(); ++i)
        for (int j = 0; j < box.columns(); ++j) {
            const double y = place(i, rows, box.rows()), x = place(j, columns, box.columns());
            const int next = int(x) + 1 < columns, below = int(y) + 1 < rows ? pitch : 0;
            size_t at = (inner.top / stride + int(y)) * pitch + inner.left / stride + int(x);
            float best = -INFINITY;
            for (int k = 0; at < logits.size(); ++k, at += input.bottom / stride * pitch) {
                const float* p = &logits[at];
                const float value = mix(mix(p[0], p[next], x), mix(p[below], p[below + next], x), y);
                if (value > best) best = value, labels[(box.top + i) * frame.columns() + box.left + j] = k;
            }
        }
    return labels;
}

// Closes the open pixels that are connected to a first one by edges, or by corners too.
inline std::vector<int> flood(std::vector<bool>& open, int first, int columns, bool corners) {
    std::vector<int> pixels{first};
    open[first] = false;
    for (size_t k = 0; k < pixels.size(); ++k)
        for (int side = !corners; side < 9; side += corners ? 1 : 2) {
            const int dx = side % 3 - 1, x = pixels[k] % columns + dx, next = pixels[k] + (side / 3 - 1) * columns + dx;
            if (x < 0 || x >= columns || next < 0 || next >= int(open.size()) || !open[next]) continue;
            open[next] = false;
            pixels.push_back(next);
        }
    return pixels;
}

inline void keep_largest(Bytes& labels, int columns, int label) {
    std::vector<bool> open;
    for (int each : labels) open.push_back(each == label);
    std::vector<int> largest;
    for (size_t i = 0; i < labels.size(); ++i)
        if (open[i]) {
            std::vector<int> part = flood(open, i, columns, true);
            if (part.size() > largest.size()) part.swap(largest);
            for (int pixel : part) labels[pixel] = 0;
        }
}

inline void fill_holes(Bytes& labels, int columns, int label) {
    std::vector<bool> open;
    for (int each : labels) open.push_back(each != label);
    for (int i = 0; i < int(labels.size()); ++i)
        if (open[i] && ((i + 1) % columns < 2 || i < columns || i + columns >= int(labels.size())))
            flood(open, i, columns, false);
    for (size_t i = 0; i < labels.size(); ++i) if (open[i] && !labels[i]) labels[i] = label;
}

// Makes a label the ellipse along its outline, without the points of the outline that lie far from it.
inline void fit_ellipse(Bytes& labels, int columns, int label) {
    const int rows = labels.size() / columns;
    std::vector<std::array<double, 2>> points;
    for (int across = 0; across < 2; ++across)
        for (int y = 0; y < rows - !across; ++y)
            for (int x = 0; x < columns - across; ++x)
                if ((labels[y * columns + x] == label) != (labels[(y + !across) * columns + x + across] == label))
                    points.push_back({y + (across ? 0 : 0.5), x + (across ? 0.5 : 0)});
    if (points.size() < 12) return;
    const double count = points.size();
    double row = 0, column = 0, length = 0;
    for (auto [y, x] : points) row += y / count, column += x / count;
    for (auto [y, x] : points) length += (std::abs(y - row) + std::abs(x - column)) / count;
    std::vector<double> weights(points.size(), 1), slopes(points.size()), distances(points.size());
    double a, b, c, d, e;
    for (int round = 0; round < 10; ++round) {
        double m[5][6] = {};
        for (size_t k = 0; k < points.size(); ++k) {
            const double y = (points[k][0] - row) / length, x = (points[k][1] - column) / length;
            const double term[6] = {x * x, x * y, y * y, x, y, 1};
            for (int i = 0; i < 5; ++i) for (int j = 0; j < 6; ++j) m[i][j] += weights[k] * term[i] * term[j];
        }
        for (int i = 0; i < 5; ++i)
            for (int k = 0; k < 5; ++k) {
                const double factor = m[k][i] / m[i][i];
                for (int j = i; j < 6 && k != i; ++j) m[k][j] -= factor * m[i][j];
            }
        a = m[0][5] / m[0][0], b = m[1][5] / m[1][1], c = m[2][5] / m[2][2], d = m[3][5] / m[3][3], e = m[4][5] / m[4][4];
        if (!(4 * a * c - b * b > 1e-6 * (a + c) * (a + c))) return;
        for (size_t k = 0; k < points.size(); ++k) {
            const double y = (points[k][0] - row) / length, x = (points[k][1] - column) / length;
            const double level = a * x * x + b * x * y + c * y * y + d * x + e * y;
            slopes[k] = std::pow(2 * a * x + b * y + d, 2) + std::pow(b * x + 2 * c * y + e, 2);
            distances[k] = length * std::abs(level - 1) / std::sqrt(slopes[k]);
        }
        std::vector<double> sorted = distances;
        std::sort(sorted.begin(), sorted.end());
        const double median = (sorted[sorted.size() / 2] + sorted[(sorted.size() - 1) / 2]) / 2;
        for (size_t k = 0; k < points.size(); ++k)
            weights[k] = distances[k] <= std::max(1.0, 2.5 * 1.4826 * median) ? 1 / slopes[k] : 0;
    }
    Bytes result = labels;
    long drawn = 0, fitted = 0, both = 0;
    for (int i = 0; i < int(labels.size()); ++i) {
        const double y = (i / columns - row) / length, line = b * y + d;
        const double root = std::sqrt(line * line - 4 * a * (c * y * y + e * y - 1)), x = i % columns;
        const bool inside = x >= column + length * (-line - root) / (2 * a) && x <= column + length * (-line + root) / (2 * a);
        drawn += labels[i] == label, fitted += inside, both += inside && labels[i] == label;
        if (inside ? !labels[i] : labels[i] == label) result[i] = inside ? label : 0;
    }
    if (2 * both >= 0.8 * (drawn + fitted)) labels = result;
}
